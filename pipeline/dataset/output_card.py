"""README.md of an output: a dataset card for `load_dataset` and for people.

It is written when a run is planned, about once a minute while it works, and at its end. At the end it follows from the
plans and commits alone, so every run writes the same text.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from pipeline import __version__
from pipeline.dataset.card import NOTICE, counts_section, head, hours, licenses_section, render, table
from pipeline.dataset.statistics import Statistics, statistics
from pipeline.shards.plan import Plan
from pipeline.shards.reader import RowCounts, count_rows
from pipeline.shards.writer import Commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

CARD = "README.md"
LOAD = """## How to load it

```python
from datasets import Audio, load_dataset

speech = load_dataset("THIS_FOLDER", split="train")
speech = speech.cast_column("audio", Audio(decode=False))  # bytes of a sound file, for soundfile.read
```

Each row of `data/` is one utterance with its text, voice, seed and settings; `failures/` has the rows that failed, with
reasons. `_commits/` lists the parts that are complete; while a run is in progress, ignore the others. `barkery export`
makes files for trainers of it, and `barkery report` a page to listen to."""
CONFIGS = [
    {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]},
    {"config_name": "failures", "data_files": [{"split": "train", "path": "failures/*.parquet"}]},
]


def write_final_card(store: Store, plans: list[Plan], commits: list[Commit]) -> None:
    """Write the card of what is committed, with statistics."""
    audio_s = sum(commit.num_samples for commit in commits) / SAMPLE_RATE
    content = card(plans[0].identity, count_rows(plans, commits), audio_s, statistics(store, commits))
    store.put(CARD, content)


def write_progress_card(store: Store, identity: dict[str, Any], counts: RowCounts, audio_s: float = 0.0) -> None:
    """Write the card of a run that is planned or at work."""
    store.put(CARD, card(identity, counts, audio_s))


def card(identity: dict[str, Any], counts: RowCounts, audio_s: float, numbers: Statistics | None = None) -> bytes:
    """The card's text.

    Args:
        identity: of the run, with the model.
        counts: of its rows.
        audio_s: seconds that are written.
        numbers: of the clips; None while the run goes on.
    """
    model = str(identity.get("model"))
    found = numbers or Statistics()
    settings = yaml.safe_dump(identity, sort_keys=True, allow_unicode=True)
    keys = head(counts.written if numbers else counts.num_rows, list(found.languages)) | {"configs": CONFIGS}
    return render(
        keys,
        [
            "# Synthetic speech",
            f"Machine-generated speech: {counts.num_rows:,} texts through `{model}` (revision "
            f"{identity.get('model_revision')}), made with Barkery {__version__}.",
            state(counts, audio_s),
            LOAD,
            quality_section(found),
            counts_section("Languages", "language", found.languages, found.clips) if numbers else "",
            counts_section("Voices", "voice", found.voices, found.clips) if numbers else "",
            f"## How it was made\n\n```yaml\n{settings}```",
            licenses_section(model),
            NOTICE,
        ],
    )


def state(counts: RowCounts, audio_s: float) -> str:
    """What is there, and a bar while something is missing."""
    rows: list[Sequence[object]] = [
        ("texts", f"{counts.num_rows:,}"),
        ("clips", f"{counts.written:,}"),
        ("failed", f"{counts.failed:,}"),
        ("audio", hours(audio_s)),
    ]
    if counts.is_gated:
        rows.append(("quality gate", counts.verdicts))
    if not counts.to_go:
        return "## Numbers\n\n" + table(rows, ("", ""))
    done = 1 - counts.to_go / counts.num_rows
    bar = "█" * round(30 * done) + "░" * (30 - round(30 * done))
    rows.append(("to go", f"{counts.to_go:,}"))
    return f"## In progress\n\n`{bar}` {done:.1%}\n\n" + table(rows, ("", ""))


def quality_section(numbers: Statistics) -> str:
    """Medians and the middle 90 % of what was measured."""
    if not numbers.quantiles:
        return ""
    rows = [(label, f"{q[1]:.3g}", f"{q[0]:.3g} to {q[2]:.3g}") for label, q in numbers.quantiles.items()]
    of = f"\n\nOf {numbers.clips:,} clips in evenly spread parts." if numbers.is_sample else ""
    return "## Clips\n\n" + table(rows, ("measure", "median", "middle 90 %")) + of
