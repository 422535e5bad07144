"""README.md of an export: how to load it, what is in it, how it was made."""

from typing import Any

import yaml

from pipeline import __version__
from pipeline.dataset.card import (
    NOTICE,
    counts_section,
    features_yaml,
    head,
    hours,
    licenses_section,
    render,
    table,
)
from pipeline.export.formats import FORMATS
from pipeline.export.plan import ExportPlan
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store


def write_card(dest: Store, plan: ExportPlan, size: int) -> None:
    """Write README.md; what it says follows from the plan and the size alone."""
    dest.put("README.md", card(plan, size))


def card(plan: ExportPlan, size: int) -> bytes:
    languages, voices = plan.statistics["languages"], plan.statistics["voices"]
    model = str(plan.source["run"]["model"])
    rate = plan.sample_rate
    chosen = FORMATS[plan.format]
    code = chosen.how_to_load.replace("RATE", str(rate))
    return render(
        head(plan.rows, list(languages)) | hub_keys(plan, size),
        [
            f"# Synthetic speech from {table_safe(plan.source['url'])}",
            f"{plan.rows:,} machine-generated clips, {hours(total_seconds(plan))}, made with Bark (`{model}`) by "
            f"Barkery {__version__}. The format is `{plan.format}`, at {rate:,} Hz.",
            f"## How to load it\n\n```{chosen.code_language}\n{code}\n```",
            "## Splits\n\n" + table(split_rows(plan), ("split", "clips", "audio", "shards")),
            counts_section("Languages", "language", languages, plan.rows),
            counts_section("Voices", "voice", voices, plan.rows),
            how_made(plan),
            licenses_section(model),
            NOTICE,
        ],
    )


def hub_keys(plan: ExportPlan, size: int) -> dict[str, Any]:
    """The keys from which `datasets.load_dataset` knows files, types and sizes."""
    chosen = FORMATS[plan.format]
    if not any(chosen.data_files(plan, split) for split in plan.splits):
        return {}
    files = [{"split": split, "path": chosen.data_files(plan, split)} for split in plan.splits]
    info: dict[str, Any] = {}
    if plan.format in ("webdataset", "nemo") and (columns := features_yaml(without_audio(plan))):
        sound = {"name": codec_of(plan), "dtype": {"audio": {"sampling_rate": plan.sample_rate}}}
        ids = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
        info["features"] = [*ids, sound, {"name": "json", "struct": columns}]
    return {"configs": [{"config_name": "default", "data_files": files}]} | ({"dataset_info": info} if info else {})


def codec_of(plan: ExportPlan) -> str:
    """The ending of the sound files."""
    codec = plan.settings["codec"] or FORMATS[plan.format].codec or plan.source["audio_format"]
    return str(codec)


def without_audio(plan: ExportPlan) -> Any:
    schema = plan.arrow_schema
    return schema.remove(schema.get_field_index("audio"))


def total_seconds(plan: ExportPlan) -> float:
    return sum(split.samples for split in plan.splits.values()) / SAMPLE_RATE


def split_rows(plan: ExportPlan) -> list[tuple[str, ...]]:
    rows = plan.splits.items()
    return [(name, f"{s.rows:,}", hours(s.samples / SAMPLE_RATE), f"{s.shards:,}") for name, s in rows]


def table_safe(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in "-_. ")


def how_made(plan: ExportPlan) -> str:
    """The model, the rows that were chosen, and what is missing."""
    source = plan.source
    settings = yaml.safe_dump({"run": source["run"], "export": plan.settings}, sort_keys=False, allow_unicode=True)
    missing = f", {source['failed']:,} could not be spoken"
    missing += f", {source['num_rows'] - source['written'] - source['failed']:,} were not made yet"
    return f"""## How it was made

Of {source["num_rows"]:,} texts, {source["written"]:,} were spoken{missing}. This export has {plan.rows:,} of them, with
the seed and the settings of each.

```yaml
{settings}```"""
