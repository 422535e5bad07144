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

# How a row sounds (pipeline/quality, docs/quality.md). A row of several segments has the worst
# of them. Null: not measured, or too short or quiet to say; from `vad_speech_ratio` on, no such judge was configured.
QUALITY = pa.struct(
    [
        ("verdict", pa.string()),  # accepted, or kept: the best of attempts that were all rejected; null: no gate
        ("score", pa.float64()),  # 0 within all limits; below, the sum of how far each was missed; null: no gate
        ("not_finite", pa.int32()),  # samples
        ("peak_dbfs", pa.float32()),
        ("clipped_runs", pa.int32()),  # places with three samples in a row at full scale
        ("rms_dbfs", pa.float32()),
        ("lufs", pa.float32()),  # integrated loudness
        ("leading_silence_s", pa.float32()),
        ("trailing_silence_s", pa.float32()),
        ("max_inner_silence_s", pa.float32()),
        ("speech_ratio", pa.float32()),  # share of the time, 0 to 1
        ("snr_db", pa.float32()),  # an estimate: loud frames against quiet ones
        ("abrupt_end", pa.bool_()),
        ("chars_per_second", pa.float32()),  # between the first sound and the last
        ("self_similarity", pa.float32()),  # of the two most similar stretches of 0.6 s, 0 to 1
        ("bandwidth_hz", pa.float32()),
        ("f0_hz", pa.float32()),  # median pitch
        ("f0_spread_semitones", pa.float32()),
        ("tokens_per_char", pa.float32()),  # semantic tokens
        ("token_repeats", pa.float32()),  # share of semantic tokens in repeated n-grams, 0 to 1
        ("longest_token_run", pa.int32()),  # of one semantic token
        ("vad_speech_ratio", pa.float32()),
        ("dnsmos_sig", pa.float32()),  # 1 to 5, as the next two
        ("dnsmos_bak", pa.float32()),
        ("dnsmos_ovr", pa.float32()),
        ("asr_text", pa.string()),
        ("wer", pa.float32()),  # word, character and phoneme error rate; may exceed 1
        ("cer", pa.float32()),
        ("per", pa.float32()),
        ("speaker_similarity", pa.float32()),  # cosine, -1 to 1
    ]
)
# What was drawn for a row before the one that it has, and that one: semantic draws of a segment, and the whole row.
ATTEMPT = pa.struct(
    [
        ("seed", pa.int64()),
        ("stage", pa.string()),  # semantic: a draw of one segment's tokens; else the stage that judged the whole row
        ("segment", pa.int32()),  # null: the whole row
        ("reason", pa.string()),  # why it was rejected; null: accepted
        ("score", pa.float64()),
    ]
)
ATTEMPTS = pa.list_(ATTEMPT)

# One Bark pass between two stages. `codes` are int16, (Q, F) row by row: Q is 1 after semantic, 2 after coarse, 8 after
# fine.
SEGMENT = pa.struct(
    [
        ("row", pa.int32()),  # in the shard
        ("seed", pa.int64()),
        ("voice", pa.string()),
        ("sampling", pa.struct(list(SAMPLING_COLUMNS.items()))),
        ("num_chars", pa.int32()),  # of its text; an East Asian wide one counts as three
        ("num_semantic", pa.int32()),
        ("stop", pa.string()),
        ("token_repeats", pa.float32()),
        ("longest_token_run", pa.int32()),
        ("draws", ATTEMPTS),  # of its semantic tokens, where more than one may be needed
        ("codes", pa.binary()),
        ("text", pa.string()),  # this one and the next three: where judges follow
        ("language", pa.string()),
        ("clip", pa.binary()),  # FLAC
        ("peak", pa.float64()),  # as in the output
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
        ("rejected", pa.int64()),  # of the failed
        ("kept", pa.int64()),  # of the written
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
QUALITY_COLUMNS = {"quality": QUALITY, "attempts": ATTEMPTS}  # of outputs that 0.2.0 or later has begun
FAILURE = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("voice", pa.string()),
        ("seed", pa.int64()),
        ("stage", pa.string()),
        ("error_type", pa.string()),
        ("error_message", pa.string()),
        ("generation", pa.int32()),  # 0: the first run; n: the n-th plan of rows to speak again
    ]
)
OUTPUT_ONLY = frozenset(RESULT_COLUMNS | QUALITY_COLUMNS)  # not allowed in a manifest: they would be overwritten


def output_schema(plan: pa.Schema, has_quality: bool = True) -> pa.Schema:
    """Columns of a data part: the row's own, the results, the sampling that was used, and the user's other columns.

    With the metadata, `datasets.load_dataset` shows `audio` as Audio.

    Args:
        plan: the schema of the plan's rows.
        has_quality: False for an output that an older release has begun: all its parts have the same columns.
    """
    own = [pa.field(name, kind) for name, kind in ROW_COLUMNS.items()]
    quality = QUALITY_COLUMNS if has_quality else {}
    results = [pa.field(name, kind) for name, kind in (RESULT_COLUMNS | quality | SAMPLING_COLUMNS).items()]
    known = {field.name for field in own + results}
    others = [field.remove_metadata() for field in plan if field.name not in known]
    features = {"info": {"features": {"audio": {"sampling_rate": spec.SAMPLE_RATE, "_type": "Audio"}}}}
    return pa.schema([*own, *results, *others], metadata={"huggingface": json.dumps(features)})


def failure_schema(has_quality: bool = True) -> pa.Schema:
    """Columns of a failures part; `has_quality` as in `output_schema`."""
    if not has_quality:
        return FAILURE
    return pa.schema([*FAILURE, ("score", pa.float64()), ("attempts", ATTEMPTS)])
