"""What `ray job submit --working-dir . -- python -m jobs.audiobook BOOK... -o DIR` runs: `barkery audiobook`."""

import sys

from pipeline.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "audiobook")
    main()
