"""Lhotse Shar: `cuts.000000.jsonl.gz` with texts and all columns, `recording.000000.tar` with the sounds.

Each split has a folder, also if there is only one: `CutSet.from_shar` takes every file in its folder for a part of the
data, so the card must lie outside.

Source of the fields: what lhotse 1.33 writes (`CutSet.to_shar`). The shards are written without lhotse.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.export.clips import ExportClip
from pipeline.export.formats.base import Written, to_gzip, to_json, to_tar
from pipeline.export.plan import ExportPlan, ExportShard
from pipeline.storage.store import Store


class Shar:
    name = "lhotse"
    codec: str | None = None
    code_language = "python"
    media_type = "application/x-tar"
    sound_files = "{split}/recording.*.tar"
    how_to_load = 'from lhotse import CutSet\n\ncuts = CutSet.from_shar(in_dir="THIS_FOLDER/train")'

    def write(self, dest: Store, plan: ExportPlan, shard: ExportShard, clips: Iterator[ExportClip]) -> list[Written]:
        folder = shard.split
        names = f"{folder}/recording.{shard.number:06d}.tar", f"{folder}/cuts.{shard.number:06d}.jsonl.gz"
        cuts: list[bytes] = []

        def members() -> Iterator[tuple[str, bytes]]:
            for clip in clips:
                cuts.append(to_json(cut_of(clip)))
                yield clip.file_name, clip.audio
                yield f"{clip.key}.json", to_json(recording_of(clip))

        with dest.local_file(names[0]) as path:
            tar_bytes = to_tar(path, members())
        with dest.local_file(names[1]) as path:
            return [Written(names[0], tar_bytes), Written(names[1], to_gzip(path, cuts))]

    def finish(self, dest: Store, plan: ExportPlan, shards: Iterable[ExportShard]) -> None:
        pass

    def data_files(self, plan: ExportPlan, split: str) -> list[str]:
        return []


def recording_of(clip: ExportClip) -> dict[str, Any]:
    """A recording whose sound is in the same tar."""
    rate, count = clip.row["sampling_rate"], clip.row["num_samples"]
    place = {"id": clip.key, "sources": [{"type": "shar", "channels": [0], "source": ""}]}
    return place | {"sampling_rate": rate, "num_samples": count, "duration": count / rate, "channel_ids": [0]}


def cut_of(clip: ExportClip) -> dict[str, Any]:
    """A cut of the whole recording; the output's columns are in `custom` of its supervision."""
    recording, row = recording_of(clip), clip.row
    span = {"id": clip.key, "start": 0, "duration": recording["duration"], "channel": 0}
    supervision = span | {"recording_id": clip.key, "text": row["text"], "language": row.get("language")}
    supervision |= {"speaker": row.get("voice"), "custom": {k: v for k, v in row.items() if k != "text"}}
    return span | {"supervisions": [supervision], "recording": recording, "type": "MonoCut"}
