"""The programs in examples/ run as they are."""

from pathlib import Path

import pytest
import soundfile

from examples import example


@pytest.mark.slow
def test_example_writes_sound_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(tmp_path / "new")
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["0.wav", "1.wav", "hello.wav"]
    assert all(0.5 < soundfile.info(file).duration < 10 for file in files)
    assert "'The coffee is warm.': " in capsys.readouterr().out


def test_example_is_short() -> None:
    assert len(Path(example.__file__).read_text().splitlines()) <= 32
