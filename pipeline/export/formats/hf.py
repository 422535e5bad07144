"""Parquet as the Hugging Face hub likes it: `data/train-00000-of-00012.parquet`, with a typed Audio column.

Row groups of about 90 MB, a page index, sound uncompressed, and page boundaries that follow the content, so that a
changed row changes few bytes of an upload. The options are those of datasets 5.2 (`arrow_writer.py`).
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.clips import ExportClip
from pipeline.export.formats.base import Written
from pipeline.export.plan import ExportPlan, ExportShard
from pipeline.storage.store import Store

GROUP_BYTES = 90 * 10**6  # a row group is full at this size; the hub's viewer wants at most 100 MB
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}


class HuggingFace:
    name = "hf"
    codec: str | None = None
    code_language = "python"
    media_type = "application/x-parquet"
    sound_files = "data/{split}-*.parquet"
    how_to_load = 'from datasets import load_dataset\n\nspeech = load_dataset("THIS_FOLDER", split="train")'

    def write(self, dest: Store, plan: ExportPlan, shard: ExportShard, clips: Iterator[ExportClip]) -> list[Written]:
        schema = with_features(plan.arrow_schema, plan.sample_rate)
        name = f"data/{shard.split}-{shard.number:05d}-of-{shard.count:05d}.parquet"
        with dest.local_file(name) as path:
            with pq.ParquetWriter(path, schema, **writer_options(schema)) as writer:
                for group in row_groups(clips):
                    writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=len(group))
            return [Written(name, path.stat().st_size)]

    def finish(self, dest: Store, plan: ExportPlan, shards: Iterable[ExportShard]) -> None:
        pass

    def data_files(self, plan: ExportPlan, split: str) -> list[str]:
        return [f"data/{split}-*.parquet"]


def with_features(schema: pa.Schema, rate: int) -> pa.Schema:
    """The schema with what makes `datasets` show the column as Audio."""
    features = {"info": {"features": {"audio": {"sampling_rate": rate, "_type": "Audio"}}}}
    return schema.with_metadata({"huggingface": json.dumps(features)})


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    leaves = [leaf for field in schema for leaf in leaf_paths(field.name, field.type)]
    audio = {"audio.bytes", "audio.path"}
    return {
        "compression": {leaf: "none" if leaf in audio else "snappy" for leaf in leaves},
        "use_dictionary": [leaf for leaf in leaves if leaf not in audio],
        "column_encoding": dict.fromkeys(audio, "PLAIN"),
        "write_statistics": [leaf for leaf in leaves if leaf not in audio],
        "write_page_index": True,
        "use_content_defined_chunking": CHUNKING,
    }


def leaf_paths(path: str, kind: pa.DataType) -> list[str]:
    """The names of a column's leaves, as Parquet spells them."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in leaf_paths(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return leaf_paths(f"{path}.list.element", kind.value_type)
    if pa.types.is_map(kind):
        pairs = (("key", kind.key_type), ("value", kind.item_type))
        return [leaf for name, each in pairs for leaf in leaf_paths(f"{path}.key_value.{name}", each)]
    return [path]


def row_groups(clips: Iterator[ExportClip]) -> Iterator[list[dict[str, Any]]]:
    """Rows in groups of about GROUP_BYTES of sound."""
    group: list[dict[str, Any]] = []
    size = 0
    for clip in clips:
        if group and size + len(clip.audio) > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(clip.row | {"audio": {"bytes": clip.audio, "path": clip.file_name}})
        size += len(clip.audio)
    yield group
