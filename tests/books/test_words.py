"""Text to speech text: what is written in digits and signs, and what a reader says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.spoken.rules import OTHERS, RULES
from pipeline.books.spoken.words import to_words

CASES = {
    "en": """
        I have 3 cats. | I have three cats.
        It has 59,265 people. | It has fifty-nine thousand two hundred and sixty-five people.
        Pi is 3.14. | Pi is three point one four.
        It was 0.5 per day. | It was zero point five per day.
        It was -5 outside. | It was minus five outside.
        He was born in 1881. | He was born in eighteen eighty-one.
        In 2008, it rained. | In two thousand and eight, it rained.
        In 2024 it snowed. | In twenty twenty-four it snowed.
        In 1905 it burned. | In nineteen oh-five it burned.
        The 1920s were loud. | The nineteen twenties were loud.
        Hyman Hurwitz (1770-1844) | Hyman Hurwitz (seventeen seventy to eighteen forty-four)
        On May 3, 1881 he left. | On May third, eighteen eighty-one he left.
        On 3 May 1881 he left. | On the third of May eighteen eighty-one he left.
        On July 4th we sang. | On July fourth we sang.
        Due 2024-05-03. | Due May third, twenty twenty-four.
        The 1st and the 22nd. | The first and the twenty-second.
        It was the 100th time. | It was the one hundredth time.
        At 5:30 p.m. he ate. | At five thirty p m he ate.
        At 17:05 he ate. | At seventeen oh five he ate.
        At 7:00 he rose. | At seven o'clock he rose.
        It cost $5. | It cost five dollars.
        It cost $1. | It cost one dollar.
        It cost $12.50. | It cost twelve dollars and fifty cents.
        It cost $17,664,675. | It cost seventeen million six hundred and sixty-four thousand six hundred and seventy-five dollars.
        It cost $3.5 million. | It cost three point five million dollars.
        It cost £20 or €30. | It cost twenty pounds or thirty euros.
        About 40% agreed. | About forty percent agreed.
        It is 5 km away. | It is five kilometers away.
        It weighs 1 kg. | It weighs one kilogram.
        It was 20°C. | It was twenty degrees Celsius.
        At 60 mph it shook. | At sixty miles per hour it shook.
        Chapter IV | Chapter four
        CHAPTER XLII | CHAPTER forty-two
        Henry VIII had six wives. | Henry the Eighth had six wives.
        Louis XIV was king. | Louis the Fourteenth was king.
        I saw him. | I saw him.
        Mr. and Mrs. Poe met Dr. Ray. | Mister and Missus Poe met Doctor Ray.
        Bread, milk, etc. | Bread, milk, et cetera
        Fruit, e.g. apples | Fruit, for example apples
        See No. 5. | See Number five.
        J. R. R. Tolkien wrote it. | J R R Tolkien wrote it.
        Visit www.example.com/a. | Visit www dot example dot com slash a.
        Write to me@example.org. | Write to me at example dot org.
        Read pages 10-12. | Read pages ten to twelve.
        Salt & pepper | Salt and pepper
        It took 2½ hours. | It took two and a half hours.
        Only ½ was left. | Only one half was left.
        Agent 007 | Agent zero zero seven
        The B-52 flew. | The B-52 flew.
        A 3-year-old child | A three-year-old child
    """,
    "de": """
        Er hat 3 Katzen. | Er hat drei Katzen.
        Es sind 1.234 Leute. | Es sind eintausendzweihundertvierunddreißig Leute.
        Es sind 3,5 km. | Es sind drei Komma fünf Kilometer.
        Im Jahr 1881 | Im Jahr achtzehnhunderteinundachtzig
        am 3. Mai | am dritten Mai
        um 17:30 Uhr | um siebzehn Uhr dreißig
        z. B. Brot | zum Beispiel Brot
        Dr. Ray kam um 8 Uhr. | Doktor Ray kam um acht Uhr.
        40 % der Leute | vierzig Prozent der Leute
        Es kostet 20 €. | Es kostet zwanzig Euro.
        Kapitel IV | Kapitel vier
        Bd. 2, Nr. 7 | Band zwei, Nummer sieben
        Heinrich VIII. | Heinrich der Achte
        der 1. Tag | der erste Tag
    """,
    "es": """
        Tiene 3 gatos. | Tiene tres gatos.
        Son 1.234 personas. | Son mil doscientos treinta y cuatro personas.
        Son 3,5 km. | Son tres coma cinco kilómetros.
        En 1881 nació. | En mil ochocientos ochenta y uno nació.
        El Sr. López y la Sra. Díaz | El señor López y la señora Díaz
        el 40 % de la gente | el cuarenta por ciento de la gente
        Cuesta 20 €. | Cuesta veinte euros.
        Capítulo IV | Capítulo cuatro
        Felipe II | Felipe segundo
        Son las 5:30. | Son las cinco y media.
    """,
    "fr": """
        Il a 3 chats. | Il a trois chats.
        Il y a 1 234 personnes. | Il y a mille deux cent trente-quatre personnes.
        C'est 3,5 km. | C'est trois virgule cinq kilomètres.
        En 1881 il naquit. | En mille huit cent quatre-vingt-un il naquit.
        M. Dupont et Mme Martin | monsieur Dupont et madame Martin
        la 2e fois | la deuxième fois
        40 % des gens | quarante pour cent des gens
        Cela coûte 20 €. | Cela coûte vingt euros.
        Chapitre IV | Chapitre quatre
        Louis XIV | Louis quatorze
        à 17h30 | à dix-sept heures trente
    """,
}
RIGHT = {"en": 50, "de": 12, "es": 8, "fr": 9}  # at least so many


def cases(language: str) -> list[tuple[str, str]]:
    lines = [line.strip().partition(" | ") for line in CASES[language].strip().splitlines()]
    return [(written, spoken) for written, _, spoken in lines]


@pytest.mark.parametrize("language", list(CASES))
def test_hard_cases(language: str) -> None:
    wrong = [(w, to_words(w, language), s) for w, s in cases(language) if to_words(w, language) != s]
    assert len(cases(language)) - len(wrong) >= RIGHT[language], wrong


@pytest.mark.parametrize("language", ["it", "pl", "pt", "ru", "tr"])
def test_numbers_in_other_languages(language: str) -> None:
    assert not set("0123456789") & set(to_words("12 3,5 1881", language))


@pytest.mark.parametrize("language", ["ja", "zh", "ko", "hi", "ar"])
def test_a_language_without_a_table_stays_as_it_is(language: str) -> None:
    assert to_words("Dr. 12 §", language) == "Dr. 12 §"


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789.,:-/$€%°½ IVXLMapm@wAb\u00a0٣", max_size=40), st.sampled_from([*RULES, *OTHERS]))
def test_any_text_has_words(text: str, language: str) -> None:
    to_words(text, language)
