"""`make demo`: the example sentences through the whole pipeline with the built-in model, and how to listen to them."""

import sys
from pathlib import Path

from pipeline.cli.main import main

OUTPUT = Path("out/demo")

HOW_TO_LISTEN = f"""
shards    {OUTPUT}/data          one row per utterance, Hugging Face Audio (FLAC)
failures  {OUTPUT}/failures      rows that failed, with reasons (if any)
listen    .venv/bin/python -m jobs.listen {OUTPUT}    writes each clip as a .flac into {OUTPUT}-clips/

That was puppy, a tiny model that ships with Barkery and speaks plain English only. For Suno's voices:
    .venv/bin/barkery generate configs/bark-small.yaml    (downloads suno/bark-small from the hub once)
"""

if __name__ == "__main__":
    sys.argv[1:] = ["generate", "configs/demo.yaml"]
    try:
        main()
    finally:
        if (OUTPUT / "_commits").exists():
            print(HOW_TO_LISTEN)
