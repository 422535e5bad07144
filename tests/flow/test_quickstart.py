"""examples/quickstart.py runs as it is, without Ray's processes to be fast."""

from pathlib import Path

import pytest
import soundfile

from examples import quickstart


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_quickstart_speaks_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quickstart.main(tmp_path)
    for name in ("hello", "coffee"):
        assert 0.5 < soundfile.info(tmp_path / f"{name}.flac").duration < 10
    out = capsys.readouterr().out
    assert "silence failed: empty_text: " in out
