"""Reads the files of an untrusted checkpoint: JSON, safetensors and torch's pickles, with checks of their values."""

import json
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.errors import CheckpointError, one_line
from pipeline.spec import TEXT_LEN

T = TypeVar("T")
TOKEN_IDS = {"text_encoding_offset", "text_pad_token", "semantic_infer_token"}
TOKEN_IDS |= {"coarse_semantic_pad_token", "coarse_infer_token"}
MAY_BE_ZERO = {"n_codes_total", "n_codes_given", "lstm", *TOKEN_IDS}
# Maximum sizes: larger than in any published model, and small enough that building modules takes little time and memory
MAX_SIZE = dict.fromkeys(("input_vocab_size", "output_vocab_size", "block_size", "n_embd", "n_head"), 2**17)
MAX_SIZE |= {"dimension": 2**12, "semantic_vocab_size": 2**17, "max_segment_tokens": TEXT_LEN}
MAX_SIZE |= dict.fromkeys(TOKEN_IDS, 2**17)
MAX_OTHER_SIZE = 200  # layers, codebooks, filters, kernel sizes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: the file can't be read or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: can't be read as JSON: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: must be a JSON object")
    return found


def section(source: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """The mapping under a key that may be missing or null."""
    found = source.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: {key} must be an object with names and values, is {found!r:.80}")
    return found


def pick(kind: type[T], source: dict[str, Any], renamed: dict[str, str], where: str) -> T:
    """Build a config dataclass from the keys of a checkpoint's config.

    Raises:
        CheckpointError: a key is missing or its value is impossible; names the key.
    """
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        name = renamed.get(field.name, field.name)
        value = source.get(name)
        if value is not None:
            check_size(field.name, field.type, value, f"{where}: {name}")
            values[field.name] = value
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}".replace(f"{kind.__name__}.__init__() ", "")) from error


def check_size(name: str, kind: Any, value: Any, where: str) -> None:
    """Check a size in a checkpoint.

    Raises:
        CheckpointError: the value is impossible.
    """
    if expected := expected_instead(name, kind, value):
        raise CheckpointError(f"{where} must be {expected}, is {value!r:.80}")


def expected_instead(name: str, kind: Any, value: Any) -> str | None:
    """None for a possible value, else a description of the possible ones."""
    if kind is bool:
        return None if isinstance(value, bool) else "true or false"
    low, high = int(name not in MAY_BE_ZERO), MAX_SIZE.get(name, MAX_OTHER_SIZE)
    if kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if whole else f"a whole number from {low} to {high}"
    is_list = isinstance(value, (list, tuple)) and all(expected_instead(name, int, each) is None for each in value)
    return None if is_list else f"whole numbers from {low} to {high}"


def read_tensors(path: Path, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all weights in one file whose names start with `prefix`."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  # not a dict
                    if name.startswith(prefix):
                        yield name, file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not a readable safetensors file: {one_line(error)}") from error
        return
    for name, tensor in named_tensors(load_pickle(path), str(path)):
        if name.startswith(prefix):
            yield name, tensor


def named_tensors(found: dict[Any, Any], where: str) -> Iterator[tuple[str, Tensor]]:
    """The items of a state dict. Sparse tensors are refused: modules can't use them."""
    for name, tensor in found.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{where}: the key {name!r:.80} must be a string")
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise CheckpointError(f"{where}: {name:.80} must be a dense tensor, is {type(tensor).__name__}")
        yield name, tensor


# Suno's files store their loss as a numpy scalar. Nothing else beyond tensors and plain containers is unpickled.
_NUMPY_SCALAR = [
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    np.dtype,
    *{type(np.dtype(name)) for name in ("float16", "float32", "float64")},
]


def load_pickle(path: Path) -> dict[str, Any]:
    """The content of a torch file, memory-mapped. It may contain only tensors, plain containers and numpy scalars.

    Raises:
        CheckpointError: the file is missing or damaged, or contains other objects; those are not executed.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALAR):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, it is damaged or contains more than weights: {one_line(error)}"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(f"{path}: not a readable torch file: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: must contain a dict, contains {type(found).__name__}")
    return found
