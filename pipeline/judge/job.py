"""`barkery judge`: measures the clips of a finished output, by the limits and judges of a config, and speaks nothing.

    quality/run.json               the limits and judges; created first, only if absent
    quality/part-00042.parquet     id, measures, verdict and reason of each row of data/part-00042.parquet
    quality/_commits/part-00042.json   counts, hashes and the data part's hash; written last

Killed and started again, it judges only what is missing. It never changes the rest of the output.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from pipeline.bark.judging import make_judges
from pipeline.bark.registry import JUDGE
from pipeline.bark.text import spoken_chars
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.config import RunConfig, parse, read_yaml
from pipeline.errors import ConfigError, redact
from pipeline.flow.tasks import run_tasks
from pipeline.quality.gate import RELATIVE
from pipeline.quality.judges.clip import HeardClip, Judge, judge_all
from pipeline.quality.judges.load import check_judges, fingerprint
from pipeline.quality.judges.settings import JudgeSettings
from pipeline.quality.rows import join_measures
from pipeline.quality.sound import measure
from pipeline.schema import QUALITY
from pipeline.shards.audio import decode
from pipeline.shards.plan import part_name, plans_of, run_file
from pipeline.shards.reader import commits
from pipeline.shards.writer import Commit
from pipeline.spec import SAMPLE_RATE
from pipeline.storage.store import Store

FOLDER = "quality"
HERE_SAMPLES = 1800 * SAMPLE_RATE  # up to half an hour of audio is judged in this process: starting Ray takes longer
PIECE = 60 * SAMPLE_RATE  # samples that are measured at once
JUDGED = pa.schema([("id", pa.string()), ("quality", QUALITY), ("reason", pa.string())])
COLUMNS = ("id", "text", "language", "voice", "stop", "num_semantic_tokens", "audio", "quality")
SECTIONS = ("quality", "judges", "pools")  # of a config that is given
FROM_TOKENS = ("token_repeats", "longest_token_run")  # which the sound does not tell: taken from the row


@dataclass(frozen=True)
class JudgedPart:
    """The content of `quality/_commits/part-*.json`."""

    shard: NonNegativeInt
    rows: NonNegativeInt
    rejected: NonNegativeInt
    data_sha256: str  # of the data part that was judged
    sha256: str


PART_ADAPTER = TypeAdapter(JudgedPart)


def judge_output(store: Store, config_path: Path | None, address: str | None = None) -> list[JudgedPart]:
    """Judge all committed rows that are not judged yet; returns all judged parts.

    Raises:
        ConfigError: the folder has no run, the config or a judge can't be used, or other limits judged it before.
        IncompleteError: storage failed, or tasks were lost; the same command goes on.
    """
    config = settings_of(store, config_path)
    check_judges(config.judges)
    keep_settings(store, config)
    todo: list[Commit] = []
    done: list[JudgedPart] = []
    for commit in commits(store):
        if commit.data:
            if judged := find_judged(store, commit):
                done.append(judged)
            else:
                todo.append(commit)
    samples = sum(commit.num_samples for commit in todo)
    work = partial(judge_part, store, config)
    done += run_tasks(work, todo, address=address, on_ray=samples > HERE_SAMPLES)
    return sorted(done, key=lambda part: part.shard)


def settings_of(store: Store, config_path: Path | None) -> RunConfig:
    """The run's own settings, with `quality`, `judges` and `pools` of the config if one is given."""
    last = plans_of(store)[-1]
    where = f"{redact(store.url)}/{run_file(last.generation)}"
    values = dict(last.config)
    if config_path:
        where = str(config_path)
        given = read_yaml(config_path)
        values = {key: value for key, value in values.items() if key not in SECTIONS} | given
    config = parse(values | {"output": store.url}, where)
    if config.quality.needs_probe:
        raise ConfigError(f"{where}: quality.reject: `{RELATIVE}` limits are made by a run; use numbers here")
    return config.model_copy(update={"output": store.url, "storage_options": store.storage_options})


def keep_settings(store: Store, config: RunConfig) -> None:
    """Write down what judges this output, or compare with what did before."""
    identity = {"reject": config.quality.reject.set_values, "judges": fingerprint(config.judges)}
    name = f"{FOLDER}/run.json"
    content = json.dumps(identity, indent=1, sort_keys=True).encode()
    if not store.create(name, content) and store.get(name) != content:
        raise ConfigError(
            f"{store.path(name)}: this output was judged with other limits or judges; delete the folder {FOLDER} "
            "to judge it again"
        )


def find_judged(store: Store, commit: Commit) -> JudgedPart | None:
    """What is known of a part; None if it was not judged, or has been written again since."""
    try:
        part = PART_ADAPTER.validate_json(store.get(f"{FOLDER}/_commits/{part_name(commit.shard)}.json"))
    except (FileNotFoundError, ValidationError):
        return None
    return part if commit.data and part.data_sha256 == commit.data.sha256 else None


def judge_part(store: Store, config: RunConfig, commit: Commit) -> JudgedPart:
    """Judge the rows of one part, write them, and commit."""
    judges = judges_here(config.judges, config.model, config.revision, config.pools[JUDGE].resolved_device)
    name = part_name(commit.shard)
    found = [judge_row(row, config, judges) for row in read_rows(store, f"data/{name}.parquet")]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(found, schema=JUDGED), buffer, compression="zstd")
    store.put(f"{FOLDER}/{name}.parquet", buffer.getvalue())
    rejected = sum(row["reason"] is not None for row in found)
    assert commit.data
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    part = JudgedPart(commit.shard, len(found), rejected, commit.data.sha256, digest)
    store.put(f"{FOLDER}/_commits/{name}.json", json.dumps(asdict(part), indent=1).encode())
    return part


def read_rows(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a data part, one row group in memory at a time."""
    content = store.get(name)
    file = pq.ParquetFile(io.BytesIO(content))
    columns = [column for column in COLUMNS if column in file.schema_arrow.names]
    for group in range(file.num_row_groups):
        yield from file.read_row_group(group, columns=columns).to_pylist()


def judge_row(row: dict[str, Any], config: RunConfig, judges: dict[str, Judge]) -> dict[str, Any]:
    """A row of JUDGED."""
    samples = decode(row["audio"]["bytes"])
    pieces = [samples[i : i + PIECE] for i in range(0, max(1, samples.size), PIECE)]
    text = row["text"] or ""
    sizes = {"num_chars": spoken_chars(text), "num_semantic": row["num_semantic_tokens"] or 0}
    counted = [{"num_samples": piece.size} | dict.fromkeys(sizes, 0) for piece in pieces]
    parts = [sound | counts for sound, counts in zip(measure(pieces), counted, strict=True)]
    clip = HeardClip(samples, text, row.get("language"), row.get("voice"))
    scores = judge_all(judges, clip)
    quality = dict.fromkeys(field.name for field in QUALITY) | join_measures([parts[0] | sizes | scores, *parts[1:]])
    quality |= {name: (row.get("quality") or {}).get(name) for name in FROM_TOKENS}
    verdict = config.quality.gate.judge(quality, row["stop"])
    quality |= {"verdict": "rejected" if verdict.reason else "accepted", "score": verdict.score}
    return {"id": row["id"], "quality": quality, "reason": verdict.reason}


@lru_cache(1)
def judges_here(settings: JudgeSettings, model: str, revision: str | None, device: str) -> dict[str, Judge]:
    """The judges of this process. The model is needed for the sound of its voices alone."""
    checkpoint = Checkpoint(resolve(model, revision)) if settings.speaker else None
    return make_judges(settings, checkpoint, device)
