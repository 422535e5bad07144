"""Write the example manifests.

examples/hello.parquet is for `make demo` and the built-in model; examples/sentences.parquet is for Suno's models, with
many languages, many presets and every kind of column.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

LONG = (
    "The bakery opens before the sun is up. At four the ovens are lit, and at five the first loaves come out, dark "
    "and singing as they cool. By six there is a line at the door: the baker's neighbours, two nurses on their way "
    "home, and a dog who knows very well what day the cheese rolls are made. Nobody speaks much. It is warm, it "
    "smells of rye, and the day has not asked anything of anybody yet."
)
ROWS = [
    ("welcome", "Welcome to the bakery. Everything you hear here was baked this morning.", "v2/en_speaker_6", "en", 1),
    ("laughs", "I left the bread in the oven again [laughs], so today it is charcoal.", "v2/en_speaker_9", "en", None),
    ("short", "Good morning!", None, "en", None),
    ("opening", LONG, "v2/en_speaker_3", "en", None),
    ("numbers", "Three rolls, two pretzels and a cup of coffee, that makes nine euros.", "v2/en_speaker_0", "en", None),
    ("announcer", "And now, fresh from the oven, the rye of the week.", "announcer", "en", 42),
    ("german", "Zwei Brezeln und ein Roggenbrot, bitte.", "v2/de_speaker_3", "de", None),
    ("french", "Deux croissants et une baguette, s'il vous plaît.", "v2/fr_speaker_1", "fr", None),
    ("spanish", "El pan de hoy está todavía caliente.", "v2/es_speaker_0", "es", None),
    ("chinese", "今天的面包刚刚出炉，还是热的。", "v2/zh_speaker_1", "zh", None),
    ("hindi", "आज की रोटी अभी भी गर्म है।", "v2/hi_speaker_2", "hi", None),
    ("song", "♪ Flour and water, salt and time ♪", None, "en", 7),
]
STORY = (
    "Good morning, and welcome to the bakery. The bread is warm, and the coffee is ready. A friend waited five hours "
    "outside the door. The winter was long, but the people were always happy. I think the sky is beautiful today."
)
HELLO = [  # plain English in the built-in model's three voices
    ("hello", "Hello world, this is the bread.", "rms", "en", 1),
    ("welcome", "Good morning, and welcome to the bakery.", "high", "en", 2),
    ("coffee", "The coffee is warm.", "middle", "en", 3),
    ("window", "The people at the window bought the bread.", "rms", "en", None),
    ("nobody", "Who is outside the door?", None, "en", 5),
    ("story", STORY, "rms", "en", None),
]
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("voice", pa.string()),
        ("language", pa.string()),
        ("seed", pa.int64()),
        ("semantic_temperature", pa.float64()),  # overrides the run's value for its row; null: not
        ("topic", pa.string()),  # not known to Barkery: copied to the output
    ]
)


def write(rows: list[tuple[str, str, str | None, str, int | None]], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    full = [
        dict(zip(SCHEMA.names, (*row, 0.6 if row[0] == "numbers" else None, "bakery"), strict=True)) for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(full, schema=SCHEMA), path)


if __name__ == "__main__":
    examples = Path(__file__).parent.parent / "examples"
    write(ROWS, examples / "sentences.parquet")
    write(HELLO, examples / "hello.parquet")
