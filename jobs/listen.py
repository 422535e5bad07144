"""Write the committed clips as numbered sound files: `python -m jobs.listen OUTPUT [FOLDER]`."""

import sys
from pathlib import Path

from pipeline.shards.reader import rows
from pipeline.storage.store import Store


def main(output: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows(Store(output), ["id", "text", "duration", "audio"])):
        content = row["audio"]["bytes"]
        kind = {b"fLaC": "flac", b"RIFF": "wav"}.get(content[:4], "mp3")
        path = folder / f"{number:05d}.{kind}"  # not named by data, which could contain a path
        path.write_bytes(content)
        print(f"{path}  {row['duration']:6.2f} s  {row['id']}  {row['text'][:60]}")


if __name__ == "__main__":
    out = sys.argv[1].rstrip("/")
    main(out, Path(sys.argv[2] if len(sys.argv) > 2 else f"{out}-clips"))
