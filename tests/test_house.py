"""The house: arrows go one way, rooms stay small, Bark's numbers live on one page, README knows every file."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from pipeline.bark.stage import SAMPLING_FIELDS
from pipeline.schema import ROW_COLUMNS

PROJECT = Path(__file__).parent.parent
FILES = sorted([*(PROJECT / "pipeline").rglob("*.py"), *(PROJECT / "jobs").rglob("*.py")])
MAX_LINES = 260
NUMBERS = {256, 257, 512, 513, 630, 768, 1024, 10_000, 10_048, 12_048, 12_050, 129_595, 129_599}


def module(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Modules imported at run time; what stands under TYPE_CHECKING is not."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and getattr(guard.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    names = {module(f) for f in FILES}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in names else node.module for name in below)


GRAPH = {module(path): set(imports(path)) for path in FILES}


def test_imports_have_no_cycle() -> None:
    order = TopologicalSorter({m: {i for i in found if i in GRAPH and i != m} for m, found in GRAPH.items()})
    assert list(order.static_order())  # raises CycleError, naming the cycle


FORBIDDEN = [  # (who, must not import)
    ("pipeline.engine", "pipeline.model"),
    ("pipeline.engine", "pipeline.bark"),
    ("pipeline.model", "pipeline.engine"),
    ("pipeline.model", "pipeline.bark"),
    ("pipeline.bark", "pipeline.shards"),
    ("pipeline.shards", "pipeline.model"),
    ("pipeline.shards", "pipeline.flow"),
    ("pipeline.bench", "pipeline.flow"),
    ("pipeline.bark", "pipeline.bench"),
    ("pipeline.flow", "pipeline.bench"),
    ("pipeline", "jobs"),
    *((f"pipeline.{room}", "pipeline.flow") for room in ("bark", "engine", "model")),
]


@pytest.mark.parametrize(("room", "other"), FORBIDDEN)
def test_arrows_go_one_way(room: str, other: str) -> None:
    def inside(name: str, of: str) -> bool:
        return name == of or name.startswith(of + ".")

    wrong = [f"{m} -> {i}" for m, found in GRAPH.items() if inside(m, room) for i in found if inside(i, other)]
    assert not wrong


def test_only_the_flow_knows_ray() -> None:
    wrong = [m for m, found in GRAPH.items() if any(i.split(".")[0] == "ray" for i in found)]
    assert all(m.startswith("pipeline.flow.") for m in wrong)
    assert wrong  # the check sees what it looks for


def test_stages_do_not_import_each_other() -> None:
    stages = {f"pipeline.bark.{name}" for name in ("semantic", "coarse", "fine", "decode")}
    assert not [f"{stage} -> {i}" for stage in stages for i in GRAPH[stage] & stages]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_fits_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", [f for f in FILES if f.parent.name in ("bark", "engine", "model")], ids=module)
def test_barks_numbers_live_in_spec(path: Path) -> None:
    tree = ast.parse(path.read_text())
    found = [(n.lineno, n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in NUMBERS]
    allowed = {("gpt.py", 1024)}  # a default that every checkpoint states
    assert not [place for place in found if (path.name, place[1]) not in allowed]


def test_readme_knows_every_room_and_column() -> None:
    readme = (PROJECT / "README.md").read_text()
    rooms = {f"pipeline/{p.name}{'/' if p.is_dir() else ''}" for p in (PROJECT / "pipeline").iterdir()}
    rooms -= {"pipeline/__init__.py", "pipeline/errors.py", "pipeline/__pycache__/"}
    missing = [name for name in (*sorted(rooms), *ROW_COLUMNS, *SAMPLING_FIELDS) if name not in readme]
    assert not missing
