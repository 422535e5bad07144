"""What differs between languages when written numbers, dates and abbreviations become words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rules:
    """One language. Words that are empty leave what they stand for as it is written."""

    language: str  # for num2words
    thousands: str = ","  # characters between groups of three digits
    decimal: str = "."
    point: str = "point"
    minus: str = "minus"
    to: str = "to"  # in a range of numbers
    percent: str = "percent"
    and_: str = "and"
    dot: str = "dot"  # in an internet address
    at: str = "at"
    slash: str = "slash"
    abbreviations: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # for one, for several
    currencies: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)  # for one, several, hundredths
    months: Sequence[str] = ()
    chapter_words: Sequence[str] = ()  # before a Roman numeral, which is then a cardinal number
    ordinal: str = ""  # a regular expression of what follows a number, in group 2
    has_years: bool = False  # 1881 as a year is read in another way than the number
    king: str = ""  # "Henry VIII": a template with {name} and {ordinal}
    is_ordinal_day: bool = False  # "May 3" is "May third"


ENGLISH = Rules(
    "en",
    abbreviations={
        "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Dr.": "Doctor", "Prof.": "Professor", "St.": "Saint",
        "Jr.": "Junior", "Sr.": "Senior", "Capt.": "Captain", "Col.": "Colonel", "Gen.": "General", "Lt.": "Lieutenant",
        "Rev.": "Reverend", "Hon.": "Honorable", "Mt.": "Mount", "vs.": "versus", "etc.": "et cetera",
        "e.g.": "for example", "i.e.": "that is", "cf.": "compare", "viz.": "namely", "approx.": "approximately",
        "Fig.": "Figure", "fig.": "figure", "Vol.": "Volume", "vol.": "volume", "Ch.": "Chapter", "pp.": "pages",
        "Messrs.": "Messieurs", "Esq.": "Esquire", "sq.": "square",
    },
    units={
        "km": ("kilometer", "kilometers"), "m": ("meter", "meters"), "cm": ("centimeter", "centimeters"),
        "mm": ("millimeter", "millimeters"), "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"),
        "mg": ("milligram", "milligrams"), "ml": ("milliliter", "milliliters"), "mi": ("mile", "miles"),
        "ft": ("foot", "feet"), "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"),
        "mph": ("mile per hour", "miles per hour"), "km/h": ("kilometer per hour", "kilometers per hour"),
        "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
        "°": ("degree", "degrees"),
    },
    currencies={"$": ("dollar", "dollars", "cents"), "£": ("pound", "pounds", "pence"),
                "€": ("euro", "euros", "cents")},
    months=("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
            "November", "December"),
    chapter_words=("Chapter", "CHAPTER", "Part", "PART", "Book", "BOOK", "Volume", "Act", "Scene", "Canto", "Section"),
    ordinal="(st|nd|rd|th)", has_years=True, king="{name} the {ordinal}", is_ordinal_day=True,
)  # fmt: skip
GERMAN = Rules(
    "de", ".", ",", "Komma", "minus", "bis", "Prozent", "und", "Punkt", "at", "Schrägstrich",
    abbreviations={
        "z. B.": "zum Beispiel", "z.B.": "zum Beispiel", "d. h.": "das heißt", "d.h.": "das heißt",
        "u. a.": "unter anderem",
        "usw.": "und so weiter", "bzw.": "beziehungsweise", "Dr.": "Doktor", "Prof.": "Professor", "Nr.": "Nummer",
        "ca.": "circa", "evtl.": "eventuell", "Hr.": "Herr", "Fr.": "Frau", "St.": "Sankt", "vgl.": "vergleiche",
        "Str.": "Straße", "etc.": "et cetera", "Bd.": "Band", "Kap.": "Kapitel", "sog.": "sogenannt",
    },
    units={
        "km": ("Kilometer", "Kilometer"), "m": ("Meter", "Meter"), "cm": ("Zentimeter", "Zentimeter"),
        "mm": ("Millimeter", "Millimeter"), "kg": ("Kilogramm", "Kilogramm"), "g": ("Gramm", "Gramm"),
        "km/h": ("Kilometer pro Stunde", "Kilometer pro Stunde"), "°C": ("Grad Celsius", "Grad Celsius"),
        "°": ("Grad", "Grad"), "l": ("Liter", "Liter"), "€": ("Euro", "Euro"), "Uhr": ("Uhr", "Uhr"),
    },
    currencies={"€": ("Euro", "Euro", ""), "$": ("Dollar", "Dollar", "")},
    months=("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November",
            "Dezember"),
    chapter_words=("Kapitel", "Teil", "Buch", "Band", "Akt"), has_years=True,
)  # fmt: skip
SPANISH = Rules(
    "es", ".", ",", "coma", "menos", "a", "por ciento", "y", "punto", "arroba", "barra",
    abbreviations={
        "Sr.": "señor", "Sra.": "señora", "Srta.": "señorita", "Dr.": "doctor", "Dra.": "doctora",
        "Ud.": "usted", "Uds.": "ustedes", "etc.": "etcétera", "p. ej.": "por ejemplo", "núm.": "número",
        "pág.": "página", "Prof.": "profesor", "EE. UU.": "Estados Unidos", "cap.": "capítulo",
        "aprox.": "aproximadamente",
    },
    units={
        "km": ("kilómetro", "kilómetros"), "m": ("metro", "metros"), "cm": ("centímetro", "centímetros"),
        "kg": ("kilogramo", "kilogramos"), "g": ("gramo", "gramos"), "°C": ("grado Celsius", "grados Celsius"),
        "km/h": ("kilómetro por hora", "kilómetros por hora"), "€": ("euro", "euros"), "l": ("litro", "litros"),
    },
    currencies={"€": ("euro", "euros", ""), "$": ("dólar", "dólares", "")},
    chapter_words=("Capítulo", "CAPÍTULO", "Parte", "Libro", "Tomo", "Acto"),
)  # fmt: skip
FRENCH = Rules(
    "fr", " \u00a0\u202f.", ",", "virgule", "moins", "à", "pour cent", "et", "point", "arobase", "barre oblique",
    abbreviations={
        "M.": "monsieur", "MM.": "messieurs", "Mme": "madame", "Mlle": "mademoiselle", "Dr": "docteur", "Me": "maître",
        "etc.": "et cetera", "p. ex.": "par exemple", "c.-à-d.": "c'est-à-dire", "av. J.-C.": "avant Jésus-Christ",
        "n°": "numéro", "St": "saint", "Ste": "sainte", "chap.": "chapitre", "env.": "environ",
    },
    units={
        "km": ("kilomètre", "kilomètres"), "m": ("mètre", "mètres"), "cm": ("centimètre", "centimètres"),
        "kg": ("kilogramme", "kilogrammes"), "g": ("gramme", "grammes"), "°C": ("degré Celsius", "degrés Celsius"),
        "km/h": ("kilomètre par heure", "kilomètres par heure"), "€": ("euro", "euros"), "l": ("litre", "litres"),
    },
    currencies={"€": ("euro", "euros", ""), "$": ("dollar", "dollars", "")},
    chapter_words=("Chapitre", "CHAPITRE", "Partie", "Livre", "Tome", "Acte"), ordinal="(er|re|e|ème)",
)  # fmt: skip
RULES = {"en": ENGLISH, "de": GERMAN, "es": SPANISH, "fr": FRENCH}
# Of Bark's other languages, those whose numbers num2words knows: numbers only
OTHERS = {
    "it": Rules("it", ".", ",", "virgola", "meno", "a", "per cento", "e", "punto", "chiocciola", "barra"),
    "pl": Rules("pl", " \u00a0", ",", "przecinek", "minus", "do", "procent", "i", "kropka", "małpa", "ukośnik"),
    "pt": Rules("pt", ".", ",", "vírgula", "menos", "a", "por cento", "e", "ponto", "arroba", "barra"),
    "ru": Rules("ru", " \u00a0", ",", "запятая", "минус", "до", "процентов", "и", "точка", "собака", "слэш"),
    "tr": Rules("tr", ".", ",", "virgül", "eksi", "", "", "ve", "nokta", "", ""),
}
