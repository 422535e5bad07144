"""`barkery say` in a process of its own, as a user starts it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline import Bark

TEXT, VOICE, SEED = "The coffee is warm.", "middle", 3
PROGRAM = """
import json
import sys
from pipeline.cli.main import main
try:
    main()
except SystemExit as ended:
    code = ended.code
import torch
print(json.dumps([code, "numba" in sys.modules, torch.get_num_threads()]))
"""


@pytest.mark.slow
def test_narrow_model_speaks_without_compiled_kernels(tmp_path: Path) -> None:
    """Importing numba and compiling takes longer than speaking; the sound is the same within rounding."""
    path = tmp_path / "hello.wav"
    arguments = ["say", TEXT, "--voice", VOICE, "--seed", str(SEED), "-o", str(path)]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False, 1]
    samples, rate = soundfile.read(path, dtype="int16")
    expected = Bark.load("puppy", device="cpu").say(TEXT, voice=VOICE, seed=SEED)
    assert rate == 24_000 and len(samples) == len(expected)
    rounded = np.round(np.clip(expected, -1, 1) * 32_767)
    assert np.abs(samples - rounded).max() <= 1
