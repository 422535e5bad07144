"""The command line: registration, version, log format, exit codes and start-up time."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.cli import main as command_line
from pipeline.log import configure

COMMANDS = {
    *("plan", "generate", "retry", "status", "verify", "judge", "export", "push", "report", "reproduce"),
    *("say", "voices", "audiobook", "bench"),
}


@pytest.fixture(autouse=True)
def default_log_format() -> Iterator[None]:
    yield
    configure()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Exit code of `barkery ARGUMENTS` in this process."""
    monkeypatch.setattr("sys.argv", ["barkery", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return ended.value.code


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"barkery {__version__}\n"


def test_every_command_is_registered_with_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {command.__name__ for command in command_line.COMMANDS} == COMMANDS
    monkeypatch.setenv("COLUMNS", "200")
    for name in COMMANDS:
        assert run(monkeypatch, name, "--help") == 0
        out = capsys.readouterr().out
        assert f"{name} [OPTIONS]" in out
        undocumented = [line for line in out.splitlines() if re.fullmatch(r"│ +--\S+ +(<.*>)? *│", line)]
        assert not undocumented


@pytest.mark.parametrize(
    "arguments", [["--log-format", "json", "retry", "."], ["retry", ".", "--log-format", "json"]], ids=" ".join
)
def test_log_format_is_accepted_before_and_after_the_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    record = json.loads(capsys.readouterr().err)
    assert record["level"] == "error" and "_plan/run.json" in record["message"]


def test_unknown_log_format_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--log-format", "xml", "voices") == 2
    assert "'text'" in capsys.readouterr().err


def test_help_imports_neither_torch_nor_ray() -> None:
    """So that it answers in a fraction of a second; asserted by modules because times vary with the machine's load."""
    program = (
        "import sys\nfrom pipeline.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'ray', 'numba', 'numpy', 'pyarrow', 'pandas', 'huggingface_hub'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_module_and_console_script_are_the_same_command() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"barkery": "pipeline.cli.main:main"}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "voices"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert len(done.stdout.splitlines()) == 271
