"""The structure of the code: import layers, file sizes, where Bark's numbers are defined, and what the docs list."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from pipeline.schema import (
    ATTEMPT,
    QUALITY,
    QUALITY_COLUMNS,
    RESULT_COLUMNS,
    ROW_COLUMNS,
    SAMPLING_COLUMNS,
    failure_schema,
)

PROJECT = Path(__file__).parent.parent
FILES = sorted([*(PROJECT / "pipeline").rglob("*.py"), *(PROJECT / "jobs").rglob("*.py")])
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
MAX_LINES = 400
NUMBERS = {256, 257, 512, 513, 630, 768, 1024, 10_000, 10_048, 12_048, 12_050, 129_595, 129_599}


def module(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Modules imported at run time, which those under TYPE_CHECKING are not."""
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


# Folders and single files of pipeline/, from the bottom up: each imports from the layers below it and from itself.
LAYERS = [
    {"spec", "errors"},
    {"log", "sampling"},
    {"schema", "kernels", "storage"},
    {"model", "engine", "manifest", "shards"},
    {"checkpoints", "quality", "dataset"},
    {"bark"},
    {"config"},
    {"flow", "bench", "books"},
    {"export", "judge", "report", "reproduce"},
    {"audiobook", "estimate"},
    {"cli"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}


def folder(name: str) -> str:
    """`pipeline.engine.step` -> `engine`"""
    return name.split(".")[1] if "." in name else ""


def test_every_folder_has_a_layer() -> None:
    assert {folder(name) for name in GRAPH if name.startswith("pipeline.")} == LAYER.keys()


def test_imports_go_down() -> None:
    edges = [(m, i) for m, found in GRAPH.items() for i in found if m.startswith("pipeline.") and i in GRAPH]
    between = [(m, i) for m, i in edges if i != "pipeline" and (i.startswith("jobs") or folder(m) != folder(i))]
    assert len(between) > 50  # the check finds something at all
    upward = [f"{m} -> {i}" for m, i in between if i.startswith("jobs") or LAYER[folder(m)] <= LAYER[folder(i)]]
    assert not upward


def test_only_flow_imports_ray() -> None:
    wrong = [m for m, found in GRAPH.items() if any(i.split(".")[0] == "ray" for i in found)]
    assert all(m.startswith("pipeline.flow.") for m in wrong)
    assert wrong  # the check finds something at all


def test_only_the_command_line_prints() -> None:
    """Everything else uses the logger, which prints its records."""
    allowed = {"pipeline.log"}
    calls = {
        module(path): [n.lineno for n in ast.walk(ast.parse(path.read_text())) if is_print(n)]
        for path in FILES
        if not module(path).startswith(("pipeline.cli", "jobs"))
    }
    assert {name for name, lines in calls.items() if lines} == allowed


def is_print(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def test_stages_do_not_import_each_other() -> None:
    stages = {f"pipeline.bark.{name}" for name in ("semantic", "coarse", "fine", "decode")}
    assert not [f"{stage} -> {i}" for stage in stages for i in GRAPH[stage] & stages]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_file_is_not_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    "path", [f for f in FILES if f.parent.name in ("bark", "engine", "model", "kernels", "checkpoints")], ids=module
)
def test_barks_numbers_are_in_spec_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    found = [(n.lineno, n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in NUMBERS]
    allowed = {("gpt.py", 1024)}  # a default that every checkpoint states
    assert not [place for place in found if (path.name, place[1]) not in allowed]


def test_readme_lists_every_folder() -> None:
    readme = (PROJECT / "README.md").read_text()
    folders = {
        f"pipeline/{p.name}/" for p in (PROJECT / "pipeline").iterdir() if p.is_dir() and p.name != "__pycache__"
    }
    assert not [name for name in sorted(folders) if name not in readme]


def test_every_column_is_documented() -> None:
    """Of the manifest in docs/manifest.md, of the output in docs/output.md, of its structs in docs/quality.md."""
    manifest, output, quality = (
        (PROJECT / "docs" / name).read_text() for name in ("manifest.md", "output.md", "quality.md")
    )
    assert not [name for name in (*ROW_COLUMNS, *SAMPLING_COLUMNS) if f"`{name}`" not in manifest]
    assert not [n for n in (*RESULT_COLUMNS, *QUALITY_COLUMNS, *failure_schema().names) if f"`{n}`" not in output]
    assert not [field.name for field in (*QUALITY, *ATTEMPT) if f"`{field.name}`" not in quality]


def test_architecture_page_shows_the_layers() -> None:
    """The first text block of docs/architecture.md: a line per layer, from the top down."""
    block = (PROJECT / "docs" / "architecture.md").read_text().split("```text\n")[1].split("```")[0]
    names = [set(line[:40].split()) for line in block.splitlines()]  # then comes the explanation
    assert names == LAYERS[::-1]


def test_links_and_paths_in_docs_exist() -> None:
    missing = []
    for page in PAGES:
        text = page.read_text()
        links = re.findall(r"\]\(([^)#:]+)\)", text)
        missing += [f"{page.name}: {link}" for link in links if not (page.parent / link).exists()]
        if page.name == "log.md":  # names of its day
            continue
        for path in re.findall(r"`([a-z_]+/[a-z0-9_/]+\.(?:py|yaml|md|parquet))`", text):
            if not any((base / path).exists() for base in (PROJECT, PROJECT / "pipeline")):
                missing.append(f"{page.name}: {path}")
    assert not missing


def test_only_tests_import_from_tests() -> None:
    files = [
        f for top in ("pipeline", "jobs", "benchmarks", "examples", "scripts") for f in (PROJECT / top).rglob("*.py")
    ]
    assert len(files) > len(FILES)
    assert not [f.name for f in files if any(name.split(".")[0] == "tests" for name in imports(f))]
