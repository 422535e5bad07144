"""Step 1: short plain English sentences to speak, and the held-out ones.

Two sources: a small grammar below (plain words, each used often) and sentences from texts that Debian ships
(`bible-kjv-text`, `fortunes`), kept only when nearly all their words are frequent here. A small model learns how a
word sounds by hearing it often, so frequency matters more than variety.

    python training/sentences.py STATE_DIR        writes STATE_DIR/sentences.txt and training/heldout.txt
"""
import collections
import pathlib
import random
import re
import subprocess
import sys

PEOPLE = "the boy|the girl|my mother|my father|the old man|the young woman|his brother|her sister|our teacher|the doctor|a friend|the farmer|the child|my uncle|the king|the captain|the driver|the woman|a stranger|the students|the children|our neighbours|two men|the workers|the people|my friends|he|she|they|we|I|you|nobody|everyone".split("|")
THINGS = "the book|a letter|the red door|the small house|the water|a cup of tea|the bread|the money|the green box|a new car|the picture|the window|the table|an apple|the key|a long story|the garden|the music|a song|the paper|the horse|the big dog|a black cat|the bird|the answer|the question|a good idea|the clock|the blue coat|the shoes|the white flowers|the milk|some fish|the phone|the map|the road|the fire|a chair|the bag|the ticket|the puppy|the voice|the computer|the audio book|the first chapter|this sentence|the speech|a little model|the machine|the bakery|the data|this page|a short test".split("|")
PLACES = "at home|in the city|by the river|near the station|in the garden|under the bridge|on the hill|at school|in the kitchen|behind the house|across the street|on the beach|in the forest|at the market|next to the church|in the village|on the train|at the hospital|in the north|over the mountains|by the sea|in the shop|around the corner|outside the town|in the next room".split("|")
TIMES = "today|yesterday|every morning|last night|in the evening|at seven o'clock|on Monday|next week|in the summer|after dinner|before lunch|for three days|all day long|at noon|in the winter|this afternoon|many years ago|on Sunday|twice a week|until midnight|in ten minutes|once a year|every other Friday|tomorrow|again".split("|")
PAST = "found|carried|wanted|opened|bought|sold|saw|painted|forgot|lost|brought|took|kept|loved|watched|remembered|broke|left|showed|cleaned|dropped|followed|needed|made|heard".split("|")
BASE = "find|carry|open|buy|sell|see|paint|forget|lose|bring|take|keep|love|watch|remember|break|leave|show|clean|drop|follow|need|make|hear|read".split("|")
MOVED = "walked|ran|stood|waited|worked|played|slept|lived|sat|stopped|travelled|danced|stayed|went slowly|talked|laughed|arrived|rested|turned|fell".split("|")
HOW = "very|quite|too|rather|always|never|often|still|almost|not".split("|")
ADJ = "happy|cold|warm|dark|beautiful|quiet|tired|strong|heavy|empty|early|late|far away|important|difficult|easy|ready|hungry|expensive|dangerous|clean|bright|small|simple|wonderful|broken|strange|famous|soft|full".split("|")
NATURE = "the weather|the sky|the sun|the moon|the wind|the rain|the snow|the night|the morning|the river|the sea|the wood|the field|the town|the room|the station|the work|the game|the lesson|the dinner|the world|the winter|the light|the street".split("|")
NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|fifty|a hundred".split("|")
COUNTED = "books|horses|days|people|houses|birds|trees|children|miles|hours|letters|friends|apples|boats|minutes|chairs|doors|stars|eggs|shoes".split("|")
TEMPLATES = """{P} {V} {T} {L}|{P} {V} {T} {W}|{W}, {p} {M} {L}|{P} {M} {L} {W}|{P} {M} {L}, and {p} {V} {T}|{N} was {H} {A} {W}|{N} is {H} {A}
did {p} {B} {T} {L}|where did {p} {B} {T}|when will {p} {B} {T}|please {B} {T} {W}|do not {B} {T} {L}|there are {C} {K} {L}|we saw {C} {K} {W}
{P} said that {n} was {H} {A}|{P} will {B} {T} {W}|{P} could not {B} {T}|if {n} is {A}, {p} will {B} {T}|{P} {V} {T}, but {p} {M} {L}|{P} {V} {C} {K} {L}
why is {n} so {A}|{P} has to {B} {T} {W}|let us {B} {T} {L}|{P} would like to {B} {T}|I think {n} is {A}|what a {A1} day it was|{P} never {V} {T} {W}
thank you for {T}|how many {K} are there {L}|{P} {M} because {n} was {A}|{T} is {L}|{T} was {A}, and {n} was {A}|can {p} {B} {C} {K} {W}
hello, {p} {M} {L}|welcome to {T}|good {G}, {p} {M} {L}|hello world, this is {T}|hello, this is {T}|my name is {X}, and {p} {V} {T}|chapter {C}, {T}|this is {T}, and {n} is {A}|it works, and {p} {B} {T}|please listen to {T} {W}""".replace("\n", "|").split("|")


def plain_sentence(rng: random.Random) -> str:
    """One sentence of the grammar."""
    pick = lambda options: lambda: rng.choice(options)
    slots = {"P": pick(PEOPLE), "p": pick(PEOPLE), "V": pick(PAST), "B": pick(BASE), "T": pick(THINGS), "L": pick(PLACES),
             "W": pick(TIMES), "M": pick(MOVED), "H": pick(HOW), "A": pick(ADJ), "A1": pick(ADJ[:5]), "N": pick(NATURE),
             "n": pick(NATURE), "G": pick("morning evening night day".split()), "X": pick("puppy Anna Peter Mary John Tom".split()),
             "C": pick(NUMBERS[1:]), "K": pick(COUNTED)}
    text = re.sub(r"\{(\w+)\}", lambda m: slots[m[1]](), rng.choice(TEMPLATES))
    ask = text.split()[0] in {"did", "where", "when", "why", "how", "can"}
    return text[0].upper() + text[1:] + ("?" if ask else ".")


def shipped_sentences() -> list[str]:
    """Sentences of 3 to 14 words out of Debian's texts, letters and simple punctuation only."""
    books = "Gen Exod Ruth 1Sam 2Sam Psa Prov Eccl Matt Mark Luke John Acts".split()
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
            piece = piece.strip(" \"'()-;:").rstrip(".") .strip()
            end = "" if piece[-1:] in "?!" else "."
            if re.fullmatch(r"[A-Z][a-z']*(,? [A-Za-z][a-z']*)*[?!]?", piece) and 3 <= len(piece.split()) <= 14:
                found.append(piece.replace("!", "").strip() + end.replace(".", "." if not piece.endswith("?") else ""))
    return [s if s[-1] in ".?" else s + "." for s in found]


def words(sentence: str) -> list[str]:
    return re.findall(r"[a-z']+", sentence.lower())


def main(state: pathlib.Path, n_grammar: int = 4500, n_shipped: int = 6000, n_heldout: int = 60) -> None:
    rng = random.Random(4)
    shipped = list(dict.fromkeys(shipped_sentences()))
    grammar = list(dict.fromkeys(plain_sentence(rng) for _ in range(n_grammar)))
    count = collections.Counter(w for s in shipped + grammar for w in words(s))
    rarity = lambda s: min(count[w] for w in words(s))
    shipped = sorted(shipped, key=rarity, reverse=True)[:n_shipped]
    rng.shuffle(shipped), rng.shuffle(grammar)
    count = collections.Counter(w for s in shipped + grammar for w in words(s))
    fit = lambda s, low: rarity(s) >= low and 4 <= len(s.split()) <= 12
    heldout = [s for s in grammar if fit(s, 25)][:n_heldout // 2] + [s for s in shipped if fit(s, 25)][:n_heldout // 2]
    kept = [s for s in grammar + shipped if s not in set(heldout)]
    rng.shuffle(kept)
    state.mkdir(parents=True, exist_ok=True)
    (state / "sentences.txt").write_text("\n".join(kept) + "\n")
    (pathlib.Path(__file__).parent / "heldout.txt").write_text("\n".join(heldout) + "\n")
    print(f"{len(shipped)} shipped, {len(grammar)} from the grammar, {len(count)} different words, {len(heldout)} held out")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
