"""Loose sound files with a table: Hugging Face's audiofolder, LJSpeech, and Kaldi's data folder.

The table needs all shards, so each shard leaves its lines in `.barkery/`, and `finish` puts them together. Up to 9,000
clips lie in one folder; more are in numbered folders of 5,000, since the Hugging Face hub allows 10,000 files in one.
"""

import csv
import heapq
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.dataset.plain import json_value
from pipeline.export.clips import ExportClip, safe_key
from pipeline.export.formats.base import Written, to_json
from pipeline.export.plan import FOLDER, ExportPlan, ExportShard
from pipeline.storage.store import Store

FLAT, IN_FOLDER = 9_000, 5_000
Line = tuple[str, bytes]  # a table's name, and a line without its end


class Loose:
    """What the three formats share."""

    name = ""
    codec: str | None = "wav"
    how_to_load = ""
    code_language = "python"
    media_type = "audio/wav"
    sound_files = "{folder}wavs/**"
    sound_folder = ""  # inside the split's folder, with a slash
    is_sorted = False  # the tables' lines

    def write(self, dest: Store, plan: ExportPlan, shard: ExportShard, clips: Iterator[ExportClip]) -> list[Written]:
        lines: dict[str, list[bytes]] = {table: [] for table in self.tables()}
        size = 0
        rows = plan.splits[shard.split].rows

        def files() -> Iterator[tuple[str, bytes]]:
            nonlocal size
            for number, clip in enumerate(clips, shard.first_row):
                inner = clip.file_name if rows <= FLAT else f"{number // IN_FOLDER:06d}/{clip.file_name}"
                name = f"{plan.folder_of(shard.split)}{self.sound_folder}{inner}"
                for table, line in self.lines(clip, inner, dest.path(name) if dest.is_local else f"{dest.url}/{name}"):
                    lines[table].append(line)
                size += len(clip.audio)
                yield name, clip.audio

        dest.put_many(files())
        for table, found in lines.items():
            ordered = sorted(found) if self.is_sorted else found
            dest.put(piece_name(table, shard), b"".join(line + b"\n" for line in ordered))
        return [Written(f"{plan.folder_of(shard.split)}{self.sound_folder}*", size)]

    def finish(self, dest: Store, plan: ExportPlan, shards: Iterable[ExportShard]) -> None:
        by_split: dict[str, list[ExportShard]] = {}
        for shard in shards:
            by_split.setdefault(shard.split, []).append(shard)
        for split, parts in by_split.items():
            for table, head in self.tables().items():
                pieces: list[Iterable[bytes]] = [piece_lines(dest, piece_name(table, shard)) for shard in parts]
                lines = heapq.merge(*pieces) if self.is_sorted else (line for piece in pieces for line in piece)
                with dest.local_file(f"{plan.folder_of(split)}{table}") as path, path.open("wb") as file:
                    file.write(head(plan))
                    file.writelines(lines)

    def tables(self) -> dict[str, Callable[[ExportPlan], bytes]]:
        """The tables in a split's folder, and what each begins with."""
        raise NotImplementedError

    def lines(self, clip: ExportClip, inner: str, path: str) -> Iterator[Line]:
        """A clip's lines; `inner` is its file in the sound folder, `path` its path or URL."""
        raise NotImplementedError

    def data_files(self, plan: ExportPlan, split: str) -> list[str]:
        return [f"{plan.folder_of(split)}{self.sound_folder}**"]


class AudioFolder(Loose):
    name = "audiofolder"
    codec: str | None = None
    media_type = "audio/flac"
    sound_files = "{folder}**"
    how_to_load = 'from datasets import load_dataset\n\nspeech = load_dataset("THIS_FOLDER", split="train")'

    def tables(self) -> dict[str, Callable[[ExportPlan], bytes]]:
        return {"metadata.csv": lambda plan: csv_line(["file_name", *columns_of(plan)]) + b"\n"}

    def lines(self, clip: ExportClip, inner: str, path: str) -> Iterator[Line]:
        yield "metadata.csv", csv_line([inner, *map(csv_cell, clip.row.values())])

    def data_files(self, plan: ExportPlan, split: str) -> list[str]:
        if plan.is_split:
            return [f"{split}/**"]
        return ["metadata.csv", "**/*.flac", "**/*.wav", "**/*.mp3", "**/*.opus"]


class LJSpeech(Loose):
    """`wavs/ID.wav` and `metadata.csv` with ID|text|normalized text, without a header, as in the LJ Speech dataset.

    `wavs/metadata.jsonl` has all columns; with it, Hugging Face's datasets reads the folder `wavs`, too.
    """

    name = "ljspeech"
    sound_folder = "wavs/"
    how_to_load = """from datasets import load_dataset

speech = load_dataset("THIS_FOLDER", split="train")  # or give the folder to a trainer as an LJ Speech dataset"""

    def tables(self) -> dict[str, Callable[[ExportPlan], bytes]]:
        return {"metadata.csv": lambda plan: b"", "wavs/metadata.jsonl": lambda plan: b""}

    def lines(self, clip: ExportClip, inner: str, path: str) -> Iterator[Line]:
        text = words(clip.row["text"], "|")
        yield "metadata.csv", f"{inner.rpartition('.')[0]}|{text}|{text}".encode()
        yield "wavs/metadata.jsonl", to_json({"file_name": inner} | clip.row)


class Kaldi(Loose):
    """Kaldi's data folder. Files are sorted by key, and a key begins with its speaker, as Kaldi's tools require.

    `segments` is there for Lhotse, which takes texts only from folders that have it.
    """

    name = "kaldi"
    sound_folder = "wavs/"
    is_sorted = True
    how_to_load = """from lhotse.kaldi import load_kaldi_data_dir

recordings, supervisions, _ = load_kaldi_data_dir("THIS_FOLDER", sampling_rate=RATE)"""

    def tables(self) -> dict[str, Callable[[ExportPlan], bytes]]:
        names = ("wav.scp", "text", "utt2spk", "spk2utt", "utt2dur", "reco2dur", "segments", "utt2lang")
        return {name: lambda plan: b"" for name in names}

    def lines(self, clip: ExportClip, inner: str, path: str) -> Iterator[Line]:
        row = clip.row
        speaker = safe_key(row["voice"]) if row.get("voice") else clip.key  # without a voice, each row has its own
        key = f"{speaker}-{clip.key}" if row.get("voice") else clip.key
        duration = f"{row['num_samples'] / row['sampling_rate']:.6f}"
        values = {
            "wav.scp": path,
            "text": words(row["text"]),
            "utt2spk": speaker,
            "utt2dur": duration,
            "reco2dur": duration,
            "segments": f"{key} 0.0 {duration}",
            "utt2lang": words(row.get("language") or "unknown").replace(" ", "_"),
        }
        yield from ((table, f"{key} {value}".encode()) for table, value in values.items())
        yield "spk2utt", f"{speaker} {key}".encode()

    def finish(self, dest: Store, plan: ExportPlan, shards: Iterable[ExportShard]) -> None:
        super().finish(dest, plan, shards)
        for split in plan.splits:  # one line for each speaker, instead of one for each of its utterances
            name = f"{plan.folder_of(split)}spk2utt"
            pairs = (line.split() for line in dest.get(name).splitlines())
            grouped = itertools.groupby(sorted(pairs), key=lambda pair: pair[0])
            lines = (b" ".join([speaker, *(pair[1] for pair in each)]) + b"\n" for speaker, each in grouped)
            dest.put(name, b"".join(lines))

    def data_files(self, plan: ExportPlan, split: str) -> list[str]:
        return []


def words(text: str, separator: str = "") -> str:
    """A text in one line without control characters, with single spaces, and without a table's separator."""
    text = "".join(" " if c in separator or not c.isprintable() else c for c in text)
    return " ".join(text.split())


def csv_line(values: list[Any]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(values)
    return buffer.getvalue().encode()


def columns_of(plan: ExportPlan) -> list[str]:
    """All columns but the audio, in the order of a clip's row."""
    return [name for name in plan.arrow_schema.names if name != "audio"]


def csv_cell(value: Any) -> Any:
    """A column's value in a CSV file: what has parts becomes JSON, and a line break a space, since `datasets` reads
    such files line by line."""
    if isinstance(value, str):
        return " ".join(value.splitlines())
    return to_json(value).decode() if isinstance(value, (dict, list)) else json_value(value)


def piece_name(table: str, shard: ExportShard) -> str:
    return f"{FOLDER}/tables/{table.replace('/', '-')}/{shard.name}"


def piece_lines(dest: Store, name: str) -> Iterator[bytes]:
    """The lines that one shard left, with their ends."""
    yield from io.BytesIO(dest.get(name))
