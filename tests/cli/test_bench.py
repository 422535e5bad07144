"""`barkery bench` on a tiny checkpoint."""

import json
from pathlib import Path

import pytest

from pipeline.cli import main as command_line


def test_prints_a_table_and_json(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", str(tiny), "--rows", "1", "--min-s", "0.1", "--max-s", "0.1", "--slots", "1"]
    monkeypatch.setattr("sys.argv", ["barkery", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 0
    first, _heading, *stages, _total, last = capsys.readouterr().out.splitlines()
    assert first.startswith("ceiling, ")
    assert [line.split()[0] for line in stages] == ["semantic", "coarse", "fine", "decode"]
    assert json.loads(last)["stages"].keys() == {"semantic", "coarse", "fine", "decode"}
