"""Environments: equal ones share an id, commits stay equal, a resume warns once, and `verify` notes a mix."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.kernels import processor
from pipeline.shards.audio import to_int16
from pipeline.shards.environment import (
    PACKAGES,
    current_environment,
    environment_id,
    environment_ids,
    resume_warning,
    save_environment,
)
from pipeline.shards.plan import Plan, read_shard, write_plan
from pipeline.shards.verify import verify
from pipeline.shards.writer import WrittenRow, read_commit, write_shard
from pipeline.storage.store import Store

MODEL = {"model": "m", "model_revision": "r", "generator": "g"}
CPUINFO = """processor\t: {number}
model name\t: AMD EPYC
cpu family\t: {family}
model\t\t: 2
flags\t\t: fpu sse4_2 avx avx2 {more}

"""


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """A function that makes this machine's processor one of another generation."""

    def become(family: int, more: str) -> None:
        path = tmp_path / "cpuinfo"
        path.write_text("".join(CPUINFO.format(number=i, family=family, more=more) for i in range(2)))
        monkeypatch.setattr(processor, "CPUINFO", path)
        processor.cpu_fields.cache_clear()

    yield become
    processor.cpu_fields.cache_clear()


@pytest.fixture
def output(tmp_path: Path) -> Store:
    """A planned run of six rows in three shards."""
    store = Store(str(tmp_path / "out"))
    table = pa.table({"id": [f"row {i}" for i in range(6)], "text": ["words"] * 6})
    write_plan(store, Plan({"model": "m"}, 6, 2), iter([table]), {})
    return store


def commit_shard(store: Store, shard: int, environments: dict[str, str]) -> tuple[Any, bool]:
    plan = Plan({"model": "m"}, 6, 2, files=tuple(n for n in store.names("_plan") if n.endswith(".parquet")))
    samples = to_int16(np.sin(np.arange(960) / 9, dtype=np.float32))
    rows = [
        WrittenRow(samples, 0.5, seed, {}, num_segments=1, num_semantic_tokens=2, num_frames=3, stop="eos")
        for seed in range(2)
    ]
    return write_shard(store, shard, read_shard(store, plan, shard), rows, "flac", MODEL, environments=environments)


def test_records_versions_processor_and_gpu() -> None:
    import platform

    import numba
    import torch

    found = current_environment("NVIDIA H100")
    assert all(found[name] for name in ("barkery", "python", *PACKAGES, "system", "processor", "gpu"))
    assert (found["python"], found["torch"]) == (platform.python_version(), torch.__version__)
    assert (found["numba"], found["numpy"]) == (numba.__version__, np.__version__)
    assert environment_id(found) == environment_id(json.loads(json.dumps(found)))
    assert environment_id(found) != environment_id(current_environment())


def test_reference_kernels_are_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BARKERY_KERNELS", raising=False)
    own = current_environment()
    monkeypatch.setenv("BARKERY_KERNELS", "reference")
    assert own["kernels"] == "own" and current_environment() == own | {"kernels": "reference"}


def test_instruction_sets_distinguish_processors_of_one_name(cpu: Callable[..., None]) -> None:
    found = []
    for family, more in ((25, ""), (25, "avx512f avx512_vnni"), (26, "")):
        cpu(family, more)
        found.append(current_environment())
    assert found[0]["processor"] == "AMD EPYC (family 25, model 2)"
    assert found[1]["instruction_sets"] == ["sse4_2", "avx", "avx2", "avx512f", "avx512_vnni"]
    assert len({environment_id(each) for each in found}) == 3


def test_processor_is_named_without_cpuinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    processor.cpu_fields.cache_clear()
    assert processor.processor_name() and processor.instruction_sets() == []
    processor.cpu_fields.cache_clear()


def test_record_is_created_once(output: Store) -> None:
    environment = current_environment()
    assert save_environment(output, environment) == save_environment(output, environment)
    assert environment_ids(output) == {environment_id(environment)}
    content = json.loads(output.get(f"_plan/environments/{environment_id(environment)}.json"))
    assert content == environment


def test_another_environment_does_not_change_a_commit(output: Store) -> None:
    """The same bytes, made again elsewhere: the commit remains as it was written."""
    first, _ = commit_shard(output, 0, {"decode": "aaa"})
    before = output.get("_commits/part-00000.json")

    class Late(Store):
        """A store that does not show the commit before this writer creates its own."""

        def get(self, name: str) -> bytes:
            if name.startswith("_commits/") and not created:
                raise FileNotFoundError(name)
            return super().get(name)

        def create(self, name: str, content: bytes) -> bool:
            created.append(name)
            return super().create(name, content)

    created: list[str] = []
    second, already_committed = commit_shard(Late(output.url), 0, {"decode": "bbb"})
    assert created and already_committed and second == first
    assert second.environments == {"decode": "aaa"}
    assert output.get("_commits/part-00000.json") == before
    assert read_commit(output, 0).environments == {"decode": "aaa"}


def test_resume_warns_of_a_new_environment_alone(output: Store) -> None:
    here, other = current_environment(), current_environment() | {"torch": "9.9.9", "instruction_sets": ["amx_int8"]}
    first = save_environment(output, here)
    assert resume_warning(output, {first}, [first]) is None
    second = save_environment(output, other)
    warning = resume_warning(output, {first}, [first, second]) or ""
    assert f"torch {here['torch']}" in warning and "now it is (torch 9.9.9, instruction_sets amx_int8)" in warning
    assert "numba" not in warning and "may differ in low bits" in warning and "\n" not in warning
    assert "name no environment" in (resume_warning(output, set(), [first]) or "")


def test_verify_notes_a_mix_which_is_no_problem(output: Store) -> None:
    here, other = current_environment(), current_environment() | {"torch": "9.9.9"}
    a, b = save_environment(output, here), save_environment(output, other)
    commit_shard(output, 0, {"fine": a, "decode": a})
    commit_shard(output, 1, {"fine": a, "decode": a})
    assert verify(output).notes == []
    commit_shard(output, 2, {"fine": b, "decode": a})
    report = verify(output)
    assert report.problems == []
    heading, *lines = report.notes
    assert "different environments" in heading and sorted(lines) == sorted(
        [f"  fine: 2 shards in {a} (torch {here['torch']})", f"  fine: 1 shard in {b} (torch 9.9.9)"]
    )


def test_verify_notes_unrecorded_and_unreadable_environments(output: Store) -> None:
    a = save_environment(output, current_environment())
    commit_shard(output, 0, {"fine": a, "decode": a})
    commit_shard(output, 1, {})
    commit_shard(output, 2, {"fine": "missing", "decode": a})
    report = verify(output)
    notes = "\n".join(report.notes)
    assert report.problems == []
    assert "not recorded (made by an older barkery)" in notes and "missing (" in notes and "unreadable" in notes
    output.remove("_commits/part-00002.json")
    assert f"1 shard in {a} (barkery " in "\n".join(verify(output).notes)
