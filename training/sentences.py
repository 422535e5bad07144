"""Step 1: sentences to speak, and the held-out ones.

Four kinds: sentences of public-domain texts that Debian ships (`fortunes`, `bible-kjv-text`), everyday sentences from
`templates.txt`, which also reads out numbers, and drills: lists of words drawn from the most frequent ones of English,
so that every word of the vocabulary is heard in some voice a few times.

    python training/sentences.py STATE_DIR        writes STATE_DIR/sentences.txt, and heldout.txt if missing
"""

import pathlib
import random
import re
import subprocess
import sys

import wordfreq

HERE = pathlib.Path(__file__).parent
FORTUNES = pathlib.Path("/usr/share/games/fortunes")
# What is polite and prose
FILES = """
    computers cookie debian definitions disclaimer education food fortunes goedel humorists kids law linux literature
    love magic medicine miscellaneous news paradoxum people pets platitudes politics pratchett riddles science
    songs-poems sports startrek tao wisdom work
""".split()  # noqa: SIM905
BOOKS = "Gen Exod Ruth 1Sam 2Sam Psa Prov Eccl Matt Mark Luke John Acts".split()  # noqa: SIM905
RUDE = re.compile(
    r"\b(sex\w*|fuck\w*|shit\w*|bitch\w*|whore\w*|nigg\w*|rap(e|ed|ist)|penis|vagina|breasts?|naked|damn\w*|bastard\w*|"
    r"ass|asshole\w*|lesbian\w*|gay|jews?|negro\w*|slut\w*|virgins?|orgasm\w*|dung|prostitut\w*|hitler|nazi\w*|"
    r"kill\w*|suicide|bondage|condoms?|booze|sin|sins|crap|piss\w*|fart\w*)\b",
    re.IGNORECASE,
)
PLAIN = re.compile(r"[A-Z][a-z']*(,? ([A-Za-z][a-z']*|[0-9]{1,3}))*[.?!]")
LONGEST = 22  # words
DRILLED = 14_000  # most frequent words that drills draw from


def lists() -> dict[str, list[str]]:
    """Of templates.txt, by name."""
    found: dict[str, list[str]] = {}
    for line in (HERE / "templates.txt").read_text().splitlines():
        if line.isalpha() and line.isupper():
            items = found.setdefault(line, [])
        elif found:
            items += [item.strip() for item in line.split("|") if item.strip()]
    return found


def number(rng: random.Random) -> str:
    return str(
        rng.choice([rng.randrange(2, 13), rng.randrange(13, 100), rng.randrange(10, 100), rng.randrange(100, 1000)])
    )


def from_template(rng: random.Random, words: dict[str, list[str]]) -> str:
    """One everyday sentence."""
    special = {
        "N": number,
        "D": lambda r: str(r.randrange(10)),
        "YEAR": lambda r: str(r.choice([r.randrange(1800, 2000), r.randrange(1900, 2030)])),
        "HOUR": lambda r: str(r.randrange(1, 13)),
    }

    def fill(match: re.Match) -> str:
        name = match[1]
        return special[name](rng) if name in special else rng.choice(words[name])

    text = re.sub(r"\{(\w+)\}", fill, rng.choice(words["TEMPLATES"]))
    return text[0].upper() + text[1:]


def drill(rng: random.Random, words: list[str]) -> str:
    """A list of words, rare ones as often as frequent ones."""
    drawn = [rng.choice(words) for _ in range(rng.randrange(3, 9))]
    text = rng.choice([", ", " ", " and ", ", "]).join(drawn)
    return text[0].upper() + text[1:] + rng.choice("....?")


def shipped_sentences() -> list[str]:
    """Of Debian's texts, letters, small numbers and simple punctuation only."""
    texts = []
    for book in BOOKS:
        verses = subprocess.run(["bible", "-l0", f"{book}1:1-{book}150:1"], capture_output=True, text=True).stdout
        texts.append(re.sub(r"(?m)^\s*\d+ ", " ", verses).replace("LORD", "Lord").replace(";", "."))
    for name in FILES:
        text = (FORTUNES / name).read_text(errors="ignore")
        texts.append(re.sub(r"\n\s*--.*", "", text).replace("\n%\n", " . \n"))
    found = []
    for text in texts:
        for piece in re.split(r"(?<=[.?!;:])[\"')]*\s+", re.sub(r"\s+", " ", text)):
            piece = piece.strip(' "()-_[]*').replace(" - ", ", ").replace("--", ", ").replace(" ,", ",")
            piece = re.sub(
                r"\s+", " ", re.sub(r"(?<=[a-z])-(?=[a-z])", " ", piece.replace('"', "").replace("...", ","))
            )
            piece = re.sub(r"[;:,.]+$", "", piece) + ("" if piece[-1:] in "?!" and piece else ".")
            if PLAIN.fullmatch(piece) and 3 <= len(piece.split()) <= LONGEST and not RUDE.search(piece):
                found.append(piece)
    return found


def main(state: pathlib.Path, n_templates: int = 9000, n_drills: int = 9000, n_scripture: int = 5000) -> None:
    rng, words = random.Random(4), lists()
    known = [w for w in wordfreq.top_n_list("en", 2 * DRILLED) if re.fullmatch(r"[a-z]{2,}('[a-z]+)?", w)]
    frequent, known = [w for w in known[:DRILLED] if not RUDE.search(w)], set(known) | {"a", "i"}
    shipped = list(dict.fromkeys(shipped_sentences()))

    def familiar(sentence: str) -> bool:
        return all(w in known for w in re.findall(r"[a-z']+", sentence.lower()))

    shipped = [s for s in shipped if familiar(s)]
    scripture = [s for s in shipped if re.search(r"\b(thou|thee|thy|unto|shalt|hath|ye|saith|Lord)\b", s)]
    shipped = [s for s in shipped if s not in set(scripture)]
    rng.shuffle(scripture), rng.shuffle(shipped)
    held_path = HERE / "heldout.txt"
    if held_path.exists():  # the same sentences in every training
        heldout = held_path.read_text().splitlines()
    else:
        heldout = [s for s in shipped if 4 <= len(s.split()) <= 16][:300]
        held_path.write_text("\n".join(heldout) + "\n")
    made = [from_template(rng, words) for _ in range(n_templates)] + [drill(rng, frequent) for _ in range(n_drills)]
    kept = [s for s in dict.fromkeys(shipped + scripture[:n_scripture] + made) if s not in set(heldout)]
    rng.shuffle(kept)
    state.mkdir(parents=True, exist_ok=True)
    (state / "sentences.txt").write_text("\n".join(kept) + "\n")
    print(f"{len(shipped)} shipped, {len(scripture)} of scripture, {len(kept)} kept, {len(heldout)} held out")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
