"""What stands committed: counts from the commits alone, clips from the parts they name."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.parquet as pq

from pipeline.shards.storage import Store
from pipeline.shards.writer import Commit, File


def committed_shards(store: Store) -> set[int]:
    """Numbers of the shards that count, by one listing."""
    names = (n for n in store.names("_commits") if n.endswith(".json"))
    return {int(name.removeprefix("part-").removesuffix(".json")) for name in names}


def commits(store: Store) -> list[Commit]:
    """All commits, in shard order."""
    names = [n for n in store.names("_commits") if n.endswith(".json")]
    with ThreadPoolExecutor(16) as pool:  # small objects: the time is round trips
        return [parse(content) for content in pool.map(lambda n: store.get(f"_commits/{n}"), names)]


def parse(content: bytes) -> Commit:
    held = json.loads(content)
    files = {k: File(**held[k]) if held[k] else None for k in ("data", "failures")}
    return Commit(**(held | files))


def rows(store: Store, columns: list[str] | None = None, kind: str = "data") -> Iterator[dict[str, Any]]:
    """Committed rows (`data` or `failures`), in the manifest's order, one part in memory at a time."""
    for commit in commits(store):
        if getattr(commit, kind) is not None:
            with store.open(f"{kind}/part-{commit.shard:05d}.parquet") as file:
                yield from pq.ParquetFile(file).read(columns=columns).to_pylist()
