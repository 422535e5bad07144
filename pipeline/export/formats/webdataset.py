"""Tars for streaming: `audio_000000.tar` with KEY.flac and KEY.json, one after the other. NeMo gets manifests as well.

NeMo pairs `audio_000000.tar` with `manifest_000000.jsonl` by their numbers, which each of its rows repeats as shard_id.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.export.clips import ExportClip
from pipeline.export.formats.base import Written, to_json, to_tar
from pipeline.export.plan import ExportPlan, ExportShard
from pipeline.storage.store import Store

LOAD = """import io

import soundfile
import webdataset

tars = "THIS_FOLDER/audio_{000000..000003}.tar"  # as many as there are
for sample in webdataset.WebDataset(tars, shardshuffle=False).decode():  # `json` becomes a dict; sound stays bytes
    samples, rate = soundfile.read(io.BytesIO(sample["flac"]))"""


class WebDataset:
    name = "webdataset"
    codec: str | None = None
    code_language = "python"
    media_type = "application/x-tar"
    sound_files = "{folder}audio_*.tar"
    how_to_load = LOAD

    def write(self, dest: Store, plan: ExportPlan, shard: ExportShard, clips: Iterator[ExportClip]) -> list[Written]:
        name = f"{plan.folder_of(shard.split)}audio_{shard.number:06d}.tar"
        with dest.local_file(name) as path:
            return [Written(name, to_tar(path, members(clips)))]

    def finish(self, dest: Store, plan: ExportPlan, shards: Iterable[ExportShard]) -> None:
        pass

    def data_files(self, plan: ExportPlan, split: str) -> list[str]:
        return [f"{plan.folder_of(split)}audio_*.tar"]


class Nemo(WebDataset):
    name = "nemo"
    code_language = "yaml"
    how_to_load = """# NeMo's data loader, in the YAML of a training run
train_ds:
  use_lhotse: true
  is_tarred: true
  skip_missing_manifest_entries: true  # the tars also have a .json for each clip
  manifest_filepath: THIS_FOLDER/manifest__OP_000000..000003_CL_.jsonl
  tarred_audio_filepaths: THIS_FOLDER/audio__OP_000000..000003_CL_.tar"""

    def write(self, dest: Store, plan: ExportPlan, shard: ExportShard, clips: Iterator[ExportClip]) -> list[Written]:
        lines: list[bytes] = []

        def noted() -> Iterator[ExportClip]:
            for clip in clips:
                lines.append(to_json(manifest_row(clip, shard.number)))
                yield clip

        files = super().write(dest, plan, shard, noted())
        name = f"{plan.folder_of(shard.split)}manifest_{shard.number:06d}.jsonl"
        content = b"".join(line + b"\n" for line in lines)
        dest.put(name, content)
        return [*files, Written(name, len(content))]


def members(clips: Iterator[ExportClip]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a tar's files: a sample's files follow each other."""
    for clip in clips:
        yield clip.file_name, clip.audio
        yield f"{clip.key}.json", to_json(clip.row)


def manifest_row(clip: ExportClip, shard: int) -> dict[str, Any]:
    """One line of a NeMo manifest: its own keys, then the output's columns under their names."""
    row = clip.row
    known = {
        "audio_filepath": clip.file_name,
        "duration": row["num_samples"] / row["sampling_rate"],
        "text": row["text"],
    }
    return known | {"lang": row.get("language"), "shard_id": shard} | {k: v for k, v in row.items() if k not in known}
