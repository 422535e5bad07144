"""Step 1: short plain English sentences to speak, and the held-out ones.

Two sources: a small grammar (`grammar.txt`: plain words, each used often) and sentences from texts that Debian ships
(`bible-kjv-text`, `fortunes`), kept only when nearly all their words are frequent here. A small model learns how a
word sounds by hearing it often, so frequency matters more than variety.

    python training/sentences.py STATE_DIR        writes STATE_DIR/sentences.txt, and heldout.txt if missing
"""

import collections
import pathlib
import random
import re
import subprocess
import sys
from collections.abc import Callable

HERE = pathlib.Path(__file__).parent


def read_grammar() -> dict[str, list[str]]:
    """Lists by name: a name is a line in capitals, items stand between bars and line ends."""
    lists: dict[str, list[str]] = {}
    for line in (HERE / "grammar.txt").read_text().splitlines():
        if line.isalpha() and line.isupper() and len(line) > 1:
            items = lists.setdefault(line, [])
        elif lists and line:
            items += [item.strip() for item in line.split("|") if item.strip()]
    return lists


SLOTS = {
    "P": "PEOPLE", "p": "PEOPLE", "V": "PAST", "B": "BASE", "T": "THINGS", "L": "PLACES", "W": "TIMES", "M": "MOVED",
    "H": "HOW", "A": "ADJ", "N": "NATURE", "n": "NATURE", "C": "NUMBERS", "K": "COUNTED", "G": "GREETED", "X": "NAMES",
}  # fmt: skip


def plain_sentence(rng: random.Random, lists: dict[str, list[str]]) -> str:
    """One sentence of the grammar."""
    text = re.sub(r"\{(\w)\}", lambda m: rng.choice(lists[SLOTS[m[1]]]), rng.choice(lists["TEMPLATES"]))
    ask = text.split()[0] in {"did", "where", "when", "why", "how", "can"}
    return text[0].upper() + text[1:] + ("?" if ask else ".")


def shipped_sentences() -> list[str]:
    """Sentences of 3 to 14 words out of Debian's texts, letters and simple punctuation only."""
    books = ["Gen", "Exod", "Ruth", "1Sam", "2Sam", "Psa", "Prov", "Eccl", "Matt", "Mark", "Luke", "John", "Acts"]
    texts = []
    for book in books:
        verses = subprocess.run(["bible", "-l0", f"{book}1:1-{book}150:1"], capture_output=True, text=True).stdout
        texts.append(re.sub(r"(?m)^\s*\d+ ", " ", verses))
    for path in sorted(pathlib.Path("/usr/share/games/fortunes").glob("*")):
        if not path.suffix and path.name not in {"art", "ascii-art", "translate-me", "perl", "zippy"}:
            texts.append(path.read_text(errors="ignore").replace("\n%\n", ".\n"))
    found = []
    for text in texts:
        text = re.sub(r"\s+", " ", text)
        for piece in re.split(r"(?<=[.?!;:])\s+", text):
            piece = piece.strip(" \"'()-;:").rstrip(".").strip()
            end = "" if piece[-1:] in "?!" else "."
            if re.fullmatch(r"[A-Z][a-z']*(,? [A-Za-z][a-z']*)*[?!]?", piece) and 3 <= len(piece.split()) <= 14:
                found.append(piece.replace("!", "").strip() + end.replace(".", "." if not piece.endswith("?") else ""))
    return [s if s[-1] in ".?" else s + "." for s in found]


def words(sentence: str) -> list[str]:
    return re.findall(r"[a-z']+", sentence.lower())


def rarity(sentences: list[str]) -> Callable[[str], int]:
    """How often a sentence's rarest word occurs in all sentences."""
    count = collections.Counter(word for sentence in sentences for word in words(sentence))
    return lambda sentence: min(count[word] for word in words(sentence))


def main(state: pathlib.Path, n_grammar: int = 4500, n_shipped: int = 6000, n_heldout: int = 60) -> None:
    rng, lists = random.Random(4), read_grammar()
    shipped = list(dict.fromkeys(shipped_sentences()))
    grammar = list(dict.fromkeys(plain_sentence(rng, lists) for _ in range(n_grammar)))
    shipped = sorted(shipped, key=rarity(shipped + grammar), reverse=True)[:n_shipped]
    rng.shuffle(shipped), rng.shuffle(grammar)
    if (HERE / "heldout.txt").exists():  # the same sentences in every training
        heldout = (HERE / "heldout.txt").read_text().splitlines()
    else:
        rarest = rarity(shipped + grammar)
        fit = [[s for s in half if rarest(s) >= 25 and 4 <= len(s.split()) <= 12] for half in (grammar, shipped)]
        heldout = fit[0][: n_heldout // 2] + fit[1][: n_heldout // 2]
        (HERE / "heldout.txt").write_text("\n".join(heldout) + "\n")
    kept = [s for s in grammar + shipped if s not in set(heldout)]
    rng.shuffle(kept)
    state.mkdir(parents=True, exist_ok=True)
    (state / "sentences.txt").write_text("\n".join(kept) + "\n")
    print(f"{len(shipped)} shipped, {len(grammar)} from the grammar, {len(heldout)} held out")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
