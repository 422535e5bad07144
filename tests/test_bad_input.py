"""Invalid or malicious input of any kind gives a one-line error that names it; no traceback, and no code is run.

Hypothesis generates the inputs: damaged files, tables of any types, texts of any characters, configs of any shape.
"""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline import Bark
from pipeline.bark.text import SegmentLimits
from pipeline.bark.voice import HistoryPrompt, load_voice, read_npz
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.config import load_config, parse
from pipeline.errors import ConfigError, RowError
from pipeline.flow.segments import split_row
from pipeline.manifest.manifest import Manifest

CASES = settings(  # the same cases in every run of the suite; CASES=600 tries new ones
    max_examples=int(os.environ.get("CASES", "60")),
    derandomize="CASES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def refusal(name: str | Path, what: Callable[[], Any]) -> str | None:
    """Call `what`: its one-line error, which must name the input, or None if it is accepted; other errors fail the test."""
    try:
        what()
    except (ConfigError, RowError) as error:
        message = str(error)
        assert str(name) in message and "\n" not in message and len(message) < 1500, message
        return message
    return None


def damage(content: bytes, at: float, with_bytes: bytes, cut: bool) -> bytes:
    """The content cut off at the fraction `at`, or with other bytes there."""
    place = int(at * len(content))
    return content[:place] if cut else content[:place] + with_bytes + content[place + len(with_bytes) :]


DAMAGE = st.tuples(st.floats(0, 0.9999), st.binary(min_size=1, max_size=40), st.booleans())


def undamaged_manifest(kind: str) -> bytes:
    table = pa.table({"id": [f"r{i}" for i in range(50)], "text": [f"Text {i}, grüße." for i in range(50)]})
    buffer = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, buffer, row_group_size=7)
    elif kind == "csv":
        pa.csv.write_csv(table, buffer)
    else:
        buffer.write("\n".join(json.dumps(row) for row in table.to_pylist()).encode())
    return buffer.getvalue()


@CASES
@given(kind=st.sampled_from(["parquet", "csv", "jsonl"]), damaged=DAMAGE)
def test_damaged_manifests(kind: str, damaged: tuple[float, bytes, bool], tmp_path: Path) -> None:
    path = tmp_path / f"damaged.{kind}"
    path.write_bytes(damage(undamaged_manifest(kind), *damaged))
    refusal("damaged", lambda: Manifest(str(path)).check())


@CASES
@given(content=st.binary(max_size=300), kind=st.sampled_from(["parquet", "csv", "jsonl", "json"]))
def test_manifest_files_of_any_bytes(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"anything.{kind}"
    path.write_bytes(content)
    refusal("anything", lambda: Manifest(str(path)).check())


VALUES: dict[pa.DataType, Any] = {
    pa.string(): st.text(max_size=20),
    pa.large_string(): st.text(max_size=20),
    pa.binary(): st.binary(max_size=20),
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.integers(-(2**63), 2**63 - 1),
    pa.timestamp("ns", "Mars/Phobos"): st.integers(0, 9),
    pa.list_(pa.duration("s")): st.lists(st.integers(-(2**62), 2**62), max_size=3),
    pa.list_(pa.string()): st.lists(st.text(max_size=5), max_size=3),
    pa.struct([("a", pa.int32())]): st.fixed_dictionaries({"a": st.integers(0, 9)}),
    pa.decimal128(10, 2): st.decimals(-100, 100, places=2),
    pa.null(): st.none(),
}
NAMES = st.sampled_from(
    ["id", "text", "voice", "seed", "top_k", "top_p", "language", "audio", "Id", "", "my column", "a/b"]
)


@st.composite
def tables(draw: Any) -> pa.Table:
    size = draw(st.integers(0, 5))
    columns = [(n, draw(st.sampled_from(list(VALUES)))) for n in ["id", "text", *draw(st.lists(NAMES, max_size=4))]]
    arrays = [
        pa.array(draw(st.lists(st.none() | VALUES[kind], min_size=size, max_size=size)), type=kind)
        for _, kind in columns
    ]
    return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])


@CASES
@given(first=tables(), second=tables(), alike=st.booleans())
def test_tables_of_any_types(first: pa.Table, second: pa.Table, alike: bool, tmp_path: Path) -> None:
    """What is accepted can be planned: it has one schema, and all values can become Python objects."""
    if alike:
        names = list(dict.fromkeys(n for n in first.schema.names if n in second.schema.names))
        first, second = (pa.table({n: t.column(t.schema.names.index(n)) for n in names}) for t in (first, second))
    (tmp_path / "tables").mkdir(exist_ok=True)
    for name, table in (("a", first), ("b", second)):
        pq.write_table(table, tmp_path / "tables" / f"{name}.parquet")
    manifest = Manifest(str(tmp_path / "tables"))
    if refusal("tables", manifest.check) is None:
        found = list(manifest.tables())
        assert all(table.schema == found[0].schema for table in found)
        assert sum(len(table.to_pylist()) for table in found) == manifest.check()


@CASES
@given(
    text=st.text(max_size=400) | st.text("\u200b\u200d\u202e\ufeff \t\n\x00\x07\u0301\U0001f600", max_size=80),
    row_id=st.text(max_size=40) | st.sampled_from(["../../etc/passwd", "a/b", "..", "a\nb", "C:\\x", "\x00", "con"]),
    voice=st.none() | st.text(max_size=30) | st.sampled_from(["/etc/passwd", "../x.npz", "http://127.0.0.1:9/v.npz"]),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    own=st.fixed_dictionaries(
        {}, optional={"top_p": st.floats(), "top_k": st.integers(), "semantic_temperature": st.floats()}
    ),
    language=st.none() | st.text(max_size=8),
)
def test_rows_of_any_values(
    bark: Bark, text: str, row_id: str, voice: str | None, seed: int | None, own: dict[str, Any], language: str | None
) -> None:
    config = parse({"model": "m", "manifest": "m", "output": "o"}, "here")
    row = {"id": row_id, "text": text, "voice": voice, "seed": seed, "language": language} | own
    for segment in split_row(0, row, config, bark.encoder):
        if segment.get("error_kind"):
            assert segment["error_message"] and "\n" not in segment["error_message"]
        else:
            refusal("text", lambda text=segment["text"]: bark.encoder.encode(text))
    if voice:
        refusal("voice", lambda: load_voice(voice, bark.checkpoint.folder))


@pytest.mark.parametrize(
    "text", ["word " * 40_000, "x" * 10_000_000, "\u200b" * 1_000_000], ids=["words", "one word", "zero width"]
)
def test_texts_of_megabytes(bark: Bark, text: str) -> None:
    try:
        segments = bark.encoder.split(text, SegmentLimits(max_tokens=200))
    except RowError as error:
        assert len(str(error)) < 300
    else:
        assert len(segments) > 1000


KEYS = st.sampled_from(
    ["model", "manifest", "output", "seed", "limit", "sampling", "pools", "audio", "segments", "modle"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
NESTED = st.recursive(SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3))
POOL = st.dictionaries(
    st.sampled_from(["actors", "num_gpus", "num_cpus", "slots", "device", "threads"]), NESTED, max_size=3
)


@CASES
@given(values=st.dictionaries(KEYS, NESTED | st.fixed_dictionaries({"semantic": POOL}), max_size=6))
@example(values={"pools": {"semantic": {"num_cpus": float("nan")}}})
@example(values={"sampling": {"\n": None}})
@example(values={"sampling": {"top": None, 3: None}})
@example(values={"pools": {"semantic": {"\n": None}}})
def test_configs_of_any_shape(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"model": "m", "manifest": "x.parquet", "output": "out"} | values), encoding="utf-8")
    refusal("run.yaml", lambda: load_config(path))


@CASES
@given(text=st.text(max_size=200) | st.text("a: {}[]&*!|>-\n'\"", max_size=60))
@example(text="a: &a [x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nmodel: &d [*c,*c,*c,*c]\noutput: [*d,*d,*d,*d]")
@example(text="model: !!python/object/apply:os.system ['touch owned']")
def test_configs_of_any_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    refusal("run.yaml", lambda: load_config(path))


def voice_bytes() -> bytes:
    buffer = io.BytesIO()
    coarse = np.zeros((2, 60), np.int64)
    np.savez(buffer, semantic_prompt=np.arange(40), coarse_prompt=coarse, fine_prompt=np.zeros((8, 60), np.int64))
    return buffer.getvalue()


@CASES
@given(damaged=DAMAGE)
@example(damaged=(0.00390625, b"\x00\x00\x00\x00\x02", False))  # zipfile quotes many bytes of the file
def test_damaged_voices(damaged: tuple[float, bytes, bool]) -> None:
    refusal("mine.npz", lambda: read_npz(damage(voice_bytes(), *damaged), "mine.npz"))


SHAPES = st.lists(st.integers(0, 9), max_size=3).map(tuple)
KINDS = st.sampled_from([np.int64, np.uint16, np.float32, np.bool_, np.complex64, "U3", "M8[s]"])


@CASES
@given(shapes=st.tuples(SHAPES, SHAPES, SHAPES), kind=KINDS, value=st.sampled_from([0, 1]))
def test_voices_of_any_arrays(shapes: tuple[Any, Any, Any], kind: Any, value: int) -> None:
    arrays = [np.full(shape, value).astype(kind) for shape in shapes]
    buffer = io.BytesIO()
    np.savez(buffer, **dict(zip(("semantic_prompt", "coarse_prompt", "fine_prompt"), arrays, strict=True)))
    refusal("mine.npz", lambda: read_npz(buffer.getvalue(), "mine.npz"))


class Bomb:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.folder,)


def test_malicious_voices(tmp_path: Path) -> None:
    objects, bomb = io.BytesIO(), io.BytesIO()
    np.savez(objects, semantic_prompt=np.array([Bomb(tmp_path / "owned")], dtype=object))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("semantic_prompt", "coarse_prompt", "fine_prompt"):
            archive.writestr(f"{name}.npy", b"\0" * 50_000_000)
    assert refusal("o.npz", lambda: read_npz(objects.getvalue(), "o.npz"))
    assert "unpacks to more than 16 MiB" in (refusal("b.npz", lambda: read_npz(bomb.getvalue(), "b.npz")) or "")
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999,), }"
    with zipfile.ZipFile(huge := io.BytesIO(), "w") as archive:
        for name in ("semantic_prompt", "coarse_prompt", "fine_prompt"):
            archive.writestr(f"{name}.npy", header.ljust(127) + b"\n")
    assert refusal("h.npz", lambda: read_npz(huge.getvalue(), "h.npz"))
    assert not (tmp_path / "owned").exists()
    assert isinstance(read_npz(voice_bytes(), "good"), HistoryPrompt)


def voice_of(array: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive whose three arrays are these bytes."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", compression) as archive:
        for name in ("semantic_prompt", "coarse_prompt", "fine_prompt"):
            archive.writestr(f"{name}.npy", array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': False, 'shape': (" + "-" * 9000 + "1,)}",  # Python's parser: MemoryError
        "{'descr': '<i8', 'fortran_order': False, 'shape': " + "(" * 180 + ")" * 180 + "}",
        "{'descr': " + "[" * 150 + "]" * 150 + ", 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<i8', (2000000000, 2000000000))], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': ('<i8', ('a', 'b', 'c')), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (-5,)}",
    ],
)
def test_voices_with_invalid_header_expressions(header: str) -> None:
    content = b"\x93NUMPY\x02\x00" + (len(header) + 1).to_bytes(4, "little") + header.encode() + b"\n" + bytes(8)
    assert refusal("mine.npz", lambda: read_npz(voice_of(content), "mine.npz"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("content", [os.urandom(500), bytes(100_000)], ids=["random", "bomb"])
def test_voices_with_other_compression(compression: int, content: bytes) -> None:
    packed = bytearray(voice_of(content, compression))
    packed[60:200] = bytes(140)  # decompressing raises LZMAError, whose base zipfile does not document
    message = refusal("mine.npz", lambda: read_npz(bytes(packed), "mine.npz"))
    assert message and "compression is not numpy's" in message


def with_changed(folder: Path, name: str, content: bytes, to: Path) -> Path:
    """A checkpoint with one changed file; the others are links to those in `folder`."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.name != name:
            (to / path.name).symlink_to(path)
    (to / name).write_bytes(content)
    return to


@pytest.mark.slow
@settings(CASES)
@given(damaged=DAMAGE, which=st.integers(0, 99), layout=st.sampled_from(["hf", "suno"]))
def test_damaged_checkpoints(
    tiny: Path, tiny_suno: Path, layout: str, which: int, damaged: tuple[float, bytes, bool], tmp_path: Path
) -> None:
    folder = tiny if layout == "hf" else tiny_suno
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("tokenizer"))
    name = names[which % len(names)]
    at, with_bytes, cut = damaged
    at = at if cut else at / 50  # names and shapes come first; changed weights can't be detected
    broken = with_changed(folder, name, damage((folder / name).read_bytes(), at, with_bytes, cut), tmp_path / "broken")
    refusal("broken", lambda: Checkpoint(broken).check())


WRONG = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-5, 5000)
    | st.sampled_from([100_000, 2**40])
    | st.text(max_size=5)
    | st.lists(st.integers(0, 9), max_size=4)
    | st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=2)
)


@settings(CASES)
@given(name=st.sampled_from(["config.json", "generation_config.json"]), replace_part=st.booleans(), data=st.data())
def test_checkpoints_with_invalid_configs(
    tiny: Path, name: str, replace_part: bool, data: st.DataObject, tmp_path: Path
) -> None:
    """One value of a part, or the part itself, is replaced by one of any type."""
    config = json.loads((tiny / name).read_text())
    part = data.draw(st.sampled_from(sorted(key for key, value in config.items() if isinstance(value, dict))))
    if replace_part:
        config[part] = data.draw(WRONG)
    else:
        config[part][data.draw(st.sampled_from(sorted(config[part])))] = data.draw(WRONG)
    broken = with_changed(tiny, name, json.dumps(config).encode(), tmp_path / "broken")
    refusal("broken", lambda: Checkpoint(broken).check())


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_checkpoints(tiny_suno: Path, tmp_path: Path, zipped: bool) -> None:
    content, bomb = io.BytesIO(), {"model": Bomb(tmp_path / "owned"), "model_args": {}}
    torch.save(bomb, content) if zipped else content.write(pickle.dumps(bomb))
    broken = with_changed(
        tiny_suno,
        "text.pt" if (tiny_suno / "text.pt").exists() else "text_2.pt",
        content.getvalue(),
        tmp_path / "broken",
    )
    assert refusal("broken", lambda: Checkpoint(broken).check())
    assert not (tmp_path / "owned").exists()
