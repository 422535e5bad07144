"""`BARKERY_KERNELS=reference`: compute with torch's public operators only.

None of the project's own kernels and none of torch's private operators run then: random numbers, attention and matrix
products are plain torch, and numba is not imported. Tokens are the same; the low bits of numbers may differ.
"""

import os

from pipeline.errors import ConfigError

VARIABLE = "BARKERY_KERNELS"


def use_reference() -> bool:
    """Whether the environment asks for the reference path.

    Raises:
        ConfigError: the variable has an unknown value.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "reference"):
        raise ConfigError(f"{VARIABLE} is {value!r}: must be 'reference' or not set")
    return value == "reference"
