"""Croissant: an export described for dataset search and for loaders, as JSON-LD (`croissant.json`).

Source: http://mlcommons.org/croissant/1.0. For Parquet it has every column, so that `mlcroissant` can read the rows.
"""

import json
from typing import Any

import pyarrow as pa

from pipeline import __version__
from pipeline.export.formats import FORMATS
from pipeline.export.plan import ExportPlan

TERMS = """
    citeAs column field fileObject fileProperty fileSet format includes isLiveDataset jsonPath key md5 parentField path
    recordSet references regex repeated replace separator source subField transform equivalentProperty samplingRate
    extract
""".split()  # noqa: SIM905
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in TERMS},
}


def croissant(plan: ExportPlan) -> bytes:
    """The JSON-LD of an export. It follows from the plan alone."""
    chosen = FORMATS[plan.format]
    sets = [
        {
            "@type": "cr:FileSet",
            "@id": f"{split}-files",
            "name": f"{split}-files",
            "description": f"{size.rows:,} clips of the split {split}",
            "encodingFormat": chosen.media_type,
            "includes": chosen.sound_files.format(split=split, folder=plan.folder_of(split)),
        }
        for split, size in plan.splits.items()
    ]
    records = [record_set(plan, split) for split in plan.splits] if plan.format == "hf" else []
    name = plan.source["url"]
    about = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "".join(c if c.isalnum() else "-" for c in name).strip("-") or "speech",
        "description": f"{plan.rows:,} clips of machine-generated speech, made with Bark "
        f"({plan.source['run']['model']}) by Barkery {__version__}. No person said these words.",
        "keywords": ["synthetic", "speech", "text-to-speech"],
        "version": "1.0.0",
        "inLanguage": sorted(plan.statistics["languages"]),
        "distribution": sets,
        "recordSet": records,
    }
    return json.dumps({key: value for key, value in about.items() if value}, indent=1, ensure_ascii=False).encode()


def record_set(plan: ExportPlan, split: str) -> dict[str, Any]:
    """The rows of one split, with a field for each column that has a plain type."""
    fields = [field(column, split, plan) for column in plan.arrow_schema]
    return {"@type": "cr:RecordSet", "@id": split, "name": split, "field": [each for each in fields if each]}


def field(column: pa.Field, split: str, plan: ExportPlan) -> dict[str, Any] | None:
    """A column as a field; None for lists and structs other than the audio."""
    name = f"{split}/{column.name}"
    source: dict[str, Any] = {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": column.name}}
    if column.name == "audio":
        source["transform"] = {"jsonPath": "bytes"}
        return {"@type": "cr:Field", "@id": name, "name": name, "dataType": "sc:AudioObject", "source": source} | {
            "samplingRate": plan.sample_rate
        }
    kind = data_type(column.type)
    return {"@type": "cr:Field", "@id": name, "name": name, "dataType": kind, "source": source} if kind else None


def data_type(kind: pa.DataType) -> str | None:
    kinds = (
        (pa.types.is_boolean, "sc:Boolean"),
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
        (pa.types.is_string, "sc:Text"),
        (pa.types.is_large_string, "sc:Text"),
        (pa.types.is_date, "sc:Date"),
    )
    return next((name for matches, name in kinds if matches(kind)), None)
