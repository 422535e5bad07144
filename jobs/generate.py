"""What `ray job submit --working-dir . -- python -m jobs.generate configs/demo.yaml` runs: `barkery generate`."""

import sys

from pipeline.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "generate")
    main()
