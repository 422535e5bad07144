"""Runs `python -m pipeline.cli`, the same as `barkery`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main()
