"""The rows between pools and the rows of the output, with their types.

plan      one row of the manifest: id, text, and the user's other columns (`shards/plan.py`)
EDGE      one shard between two pools: its segments, each with the output of the last stage
RECEIPT   one shard after the last pool: what was committed; samples never leave the decode actor
output    one utterance in `data/part-*.parquet`, one failed row in `failures/part-*.parquet`
"""

import json
from dataclasses import fields
from types import NoneType
from typing import Any, get_args

import pyarrow as pa

from pipeline import spec
from pipeline.sampling import Sampling

# Manifest columns with a meaning, and their type in the plan. All but id and text are optional.
ROW_COLUMNS = {
    "id": pa.string(),
    "text": pa.string(),
    "voice": pa.string(),
    "language": pa.string(),
    "seed": pa.int64(),
}


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field of a dataclass; `X | None` is X, since every column may hold nulls."""
    (kind,) = {*(get_args(annotation) or (annotation,))} - {NoneType}
    return {float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[kind]


# Manifest columns that override the run's sampling for their row (null: the run's value).
SAMPLING_COLUMNS = {field.name: arrow_type(field.type) for field in fields(Sampling)}

SHARD = pa.schema([("shard", pa.int64())])

# One Bark pass between two stages. `codes` are int16, (Q, F) row by row: Q is 1 after semantic, 2 after coarse, 8 after
# fine.
SEGMENT = pa.struct(
    [
        ("row", pa.int32()),  # in the shard
        ("seed", pa.int64()),
        ("voice", pa.string()),
        ("sampling", pa.struct(list(SAMPLING_COLUMNS.items()))),
        ("num_semantic", pa.int32()),
        ("stop", pa.string()),
        ("codes", pa.binary()),
        ("error_stage", pa.string()),  # if set, later stages pass the segment on unchanged
        ("error_kind", pa.string()),
        ("error_message", pa.string()),
    ]
)
# The environments of a shard: stage to the id of the environment that ran it (`shards/environment.py`)
ENVIRONMENTS = pa.map_(pa.string(), pa.string())
EDGE = pa.schema([("shard", pa.int64()), ("segments", pa.list_(SEGMENT)), ("environments", ENVIRONMENTS)])

RECEIPT = pa.schema(
    [
        ("shard", pa.int64()),
        ("written", pa.int64()),
        ("failed", pa.int64()),
        ("num_samples", pa.int64()),
        ("environments", ENVIRONMENTS),
        ("already_committed", pa.bool_()),  # another run had committed it before this one did
    ]
)

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # exactly Hugging Face's Audio, order included
RESULT_COLUMNS = {
    "audio": AUDIO,
    "sampling_rate": pa.int32(),
    "num_samples": pa.int64(),
    "duration": pa.float64(),  # seconds
    "num_segments": pa.int32(),
    "num_semantic_tokens": pa.int32(),
    "num_coarse_tokens": pa.int32(),
    "num_frames": pa.int32(),
    "stop": pa.string(),  # eos, eos_p, or length: cut at max_semantic_tokens (any segment)
    "peak": pa.float32(),  # largest |sample| before clipping to 1
    "model": pa.string(),
    "model_revision": pa.string(),
    "generator": pa.string(),
    "ai_generated": pa.bool_(),
}
FAILURE = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("voice", pa.string()),
        ("seed", pa.int64()),
        ("stage", pa.string()),
        ("error_type", pa.string()),
        ("error_message", pa.string()),
        (
            "generation",
            pa.int32(),
        ),  # 0: the first run; n: the n-th retry. Only those of the last one are current
    ]
)
OUTPUT_ONLY = frozenset(RESULT_COLUMNS)  # not allowed in a manifest: they would be overwritten


def output_schema(plan: pa.Schema) -> pa.Schema:
    """Columns of a data part: the row's own, the results, the sampling that was used, and the user's other columns.

    With the metadata, `datasets.load_dataset` shows `audio` as Audio.
    """
    own = [pa.field(name, kind) for name, kind in ROW_COLUMNS.items()]
    results = [pa.field(name, kind) for name, kind in (RESULT_COLUMNS | SAMPLING_COLUMNS).items()]
    known = {field.name for field in own + results}
    others = [field.remove_metadata() for field in plan if field.name not in known]
    features = {"info": {"features": {"audio": {"sampling_rate": spec.SAMPLE_RATE, "_type": "Audio"}}}}
    return pa.schema([*own, *results, *others], metadata={"huggingface": json.dumps(features)})
