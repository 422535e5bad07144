"""Stderr on a good run: Ray's note about restartable actors is removed, everything else stays."""

import os
import subprocess
import sys

import pytest

from pipeline.flow.cluster import RESTART_NOTE, stderr_without


def test_only_lines_with_the_text_are_removed(capfd: pytest.CaptureFixture[str]) -> None:
    with stderr_without(b"a note"):
        print("from Python", file=sys.stderr)
        os.write(2, b"[C++] Actor: a note of Ray's\nfrom C++\n")
        subprocess.run(["sh", "-c", "echo from a child >&2"], check=True)
    os.write(2, b"a note, later\n")
    assert capfd.readouterr().err == "from Python\nfrom C++\nfrom a child\na note, later\n"


def test_stderr_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), stderr_without(RESTART_NOTE):
        os.write(2, b"before\n")
        raise ValueError("broken")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"
