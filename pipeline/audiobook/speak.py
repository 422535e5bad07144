"""Speaks the sentences of all books as one run, of which only what is new or changed is spoken.

    _work/SETTINGS/ROWS/            an output as `barkery generate` writes it: what one call has spoken
    _work/SETTINGS/ROWS.parquet     its manifest
    _work/SETTINGS/ROWS.done        it ended: rows that failed in it are not tried again

SETTINGS is a hash of the settings and the model, ROWS of the rows that were missing. A sentence that any of these
outputs has, with the same text, voice and language, is kept: a row sounds the same in any batch, so it does not matter
which one has it.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audiobook.config import AudiobookConfig
from pipeline.bark.voice import own_voices
from pipeline.books.rows import Sentence
from pipeline.books.sentences import base
from pipeline.checkpoints.hub import resolve
from pipeline.config import RunConfig
from pipeline.flow.driver import run
from pipeline.flow.planning import ModelInfo, absolute
from pipeline.shards.reader import commits, query_part, read_columns
from pipeline.storage.store import Store

COLUMNS = ["id", "text", "voice", "language"]
Key = tuple[str, str, str | None, str]  # the values of COLUMNS


@dataclass(frozen=True)
class Place:
    """Where a sentence's clip is."""

    run: str  # folder below _work
    shard: int
    row: int  # in the part
    num_samples: int

    @property
    def settings(self) -> str:
        """The hash of the settings that it was spoken with."""
        return self.run.split("/")[1]


@dataclass
class Spoken:
    """What there is of the sentences that were asked for."""

    places: dict[Key, Place] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)  # with the reason
    num_new: int = 0  # spoken by this call
    num_kept: int = 0


def speak(store: Store, config: AudiobookConfig, rows: Sequence[Sentence], address: str | None) -> Spoken:
    """Speak what is not there yet.

    Args:
        store: the folder of the audiobooks.
        rows: with unique ids.

    Raises:
        ConfigError, IncompleteError: as `run`.
    """
    settings = absolute(config)
    folder = f"_work/{settings_hash(settings)}"
    wanted = [key_of(row, config) for row in rows]
    found = find_spoken(store, folder)
    missing = [key for key in dict.fromkeys(wanted) if key not in found.places and key not in found.failures]
    found.num_kept = len(set(wanted) & found.places.keys())
    if missing:
        name = f"{folder}/{hash_of(missing)}"
        store.put(f"{name}.parquet", to_parquet(missing))
        run(config.run(join(store.url, f"{name}.parquet"), join(store.url, name)), address)
        store.put(f"{name}.done", b"")
        again = find_spoken(store, folder)
        again.num_kept, again.num_new = found.num_kept, len(set(missing) & again.places.keys())
        found = again
    return found


def find_spoken(store: Store, folder: str) -> Spoken:
    """All sentences that were spoken or have failed with these settings."""
    found = Spoken()
    names = store.names(folder)
    for name in (name for name in names if "." not in name):
        output = Store(join(store.url, f"{folder}/{name}"), store.storage_options)
        for commit in commits(output):
            if commit.data is not None:
                table = query_part(output, commit, lambda file: read_columns(file, [*COLUMNS, "num_samples"]))
                for i, row in enumerate(table.to_pylist()):
                    key = tuple(row[column] for column in COLUMNS)
                    found.places.setdefault(key, Place(f"{folder}/{name}", commit.shard, i, row["num_samples"]))
        if f"{name}.done" in names:
            for row in failed_rows(output, pq.read_table(io.BytesIO(store.get(f"{folder}/{name}.parquet")))):
                found.failures[row[0]] = row[1]
    found.failures = {key: reason for key, reason in found.failures.items() if key not in found.places}
    return found


def failed_rows(output: Store, manifest: pa.Table) -> list[tuple[Key, str]]:
    """The rows of an output that have failed in every attempt, with the last reason."""
    reasons: dict[str, str] = {}
    for commit in commits(output):
        if commit.failures is not None:
            table = query_part(output, commit, lambda file: read_columns(file, ["id", "error_message"]), "failures")
            reasons |= zip(table["id"].to_pylist(), table["error_message"].to_pylist(), strict=True)
    keys = [tuple(row[column] for column in COLUMNS) for row in manifest.to_pylist()]
    return [(key, reasons[key[0]]) for key in keys if key[0] in reasons]


def key_of(row: Sentence, config: AudiobookConfig) -> Key:
    return (row.id, row.text_spoken, row.voice or narrator(config, row.language), row.language)


def narrator(config: AudiobookConfig, language: str) -> str | None:
    """The voice of rows that name none: one and the same for a whole book, since Bark makes up a voice otherwise."""
    if config.narrator:
        return config.narrator
    return first_own_voice(config.model, config.revision) or f"v2/{base(language)}_speaker_6"


@cache  # asked for every sentence, and for a branch of a hub model each answer is a request
def first_own_voice(model: str, revision: str | None) -> str | None:
    return min(own_voices(resolve(model, revision)), default=None)


def settings_hash(config: RunConfig) -> str:
    """Of all that decides how a sentence sounds, besides its own row."""
    identity = ModelInfo.check(config).identity(config)
    return hash_of(identity)


def hash_of(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]


def to_parquet(keys: Sequence[Key]) -> bytes:
    content = io.BytesIO()
    rows = [dict(zip(COLUMNS, key, strict=True)) for key in keys]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in COLUMNS])), content)
    return content.getvalue()


def join(url: str, name: str) -> str:
    return f"{url.rstrip('/')}/{name}"
