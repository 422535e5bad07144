"""From a table of texts to a dataset of speech: `python examples/quickstart.py [FOLDER]`. Starts a Ray on this machine.

The same as `barkery generate CONFIG`, `barkery verify OUTPUT` and reading the output, in Python.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import parse
from pipeline.flow.driver import run
from pipeline.shards.reader import rows
from pipeline.shards.verify import verify
from pipeline.storage.store import Store

TEXTS = {
    "id": ["hello", "coffee", "silence"],
    "text": ["Hello world, this is the bread.", "The coffee is warm.", ""],  # the empty one fails, with a reason
    "voice": ["rms", "middle", None],
}


def main(folder: Path) -> None:
    # 1. The manifest: a table with an id and a text per row. docs/manifest.md lists the other columns.
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(TEXTS), folder / "texts.parquet")

    # 2. The configuration, with the keys of a YAML file in configs/. Four actors with one thread each share two cores.
    settings = {
        "model": "puppy",
        "manifest": str(folder / "texts.parquet"),
        "output": str(folder / "speech"),
        "seed": 1,
        "pools": {stage: {"num_cpus": 0.5} for stage in ("semantic", "coarse", "fine", "decode")},
    }

    # 3. Run. After a stop, the same call resumes; now that nothing is missing, it would return at once.
    print(run(parse(settings, "examples/quickstart.py")))

    # 4. Check and read the output. docs/output.md lists the columns.
    output = Store(settings["output"])
    assert not verify(output).problems
    for row in rows(output, ["id", "text", "duration", "audio"]):
        path = folder / f"{row['id']}.flac"
        path.write_bytes(row["audio"]["bytes"])
        print(f"{path}: {row['duration']:.2f} s, {row['text']!r}")
    for row in rows(output, kind="failures"):
        print(f"{row['id']} failed: {row['error_type']}: {row['error_message']}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/quickstart"))
