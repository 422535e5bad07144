"""`make demo`: a random model, the example sentences through the whole pipeline, and how to listen."""

import sys
from pathlib import Path

from pipeline.cli import main
from pipeline.model.noise import NoiseModel, make_noise_model

MODEL = Path("out/noise-model")
OUTPUT = Path("out/demo")

HOW_TO_LISTEN = f"""
This was noise, not speech: the demo's model has random weights. It shows the whole way, not the voice.
For speech, set `model: suno/bark-small` in configs/demo.yaml (fetched from the hub once).

shards    {OUTPUT}/data          one row per utterance, Hugging Face Audio (FLAC)
failures  {OUTPUT}/failures      rows that could not be spoken, with reasons (if any)
listen    .venv/bin/python -m jobs.listen {OUTPUT}    writes each clip as a .flac into {OUTPUT}-clips/
"""

if __name__ == "__main__":
    print("random weights: what you will hear is NOISE, not speech", file=sys.stderr)
    make_noise_model(MODEL, NoiseModel(eos_gain=2.0))
    sys.argv[1:] = ["generate", "configs/demo.yaml"]
    try:
        main()
    finally:
        if (OUTPUT / "_commits").exists():
            print(HOW_TO_LISTEN)
