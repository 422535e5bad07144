"""Connecting to Ray, and starting the board there."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.errors import ConfigError
from pipeline.flow.board import Board
from pipeline.log import log

RESTART_NOTE = b"has constructor arguments in the object store"


def connect(address: str | None) -> None:
    """Connect to the cluster at `address` (or RAY_ADDRESS, which `ray job submit` sets), else start a private one here.

    A bare `ray.init()` would join any cluster that happens to run on this machine.

    Raises:
        ConfigError: the cluster does not answer, or is of another version.
    """
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    extra: dict[str, Any] = {}
    if address == "local":
        extra["include_dashboard"] = False
        # Actors share cores: a thread that waits for another must not spin on a core that the other needs. Spinning,
        # two processes of two threads on two cores took 8 times as long for a decode step as one after the other.
        # Set here for Ray's processes to inherit, and in cluster.yaml: as a runtime_env it would cost every actor a new
        # process in place of one that Ray has ready.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log.info("starting Ray on this machine" if address == "local" else f"connecting to Ray at {address}")
    try:
        ray.init(address=address, logging_level=logging.ERROR, **extra)
    except (ConnectionError, ValueError, RuntimeError) as error:  # no cluster; no address; another version
        raise ConfigError(f"Ray at {address}: can't connect: {' '.join(str(error).split())}") from error


def start_board() -> Any:
    """The handle of a new board.

    Once per process, Ray prints a note about the first restartable actor with an object reference among its
    constructor's arguments. Ray Data's actors always have one (their DataContext, which the driver keeps alive), so the
    note would break the progress bars. An unused reference for the board makes Ray print it here, where it is removed.
    """
    with stderr_without(RESTART_NOTE):
        return Board.remote([ray.put(None)])  # type: ignore[attr-defined]  # ray.remote made it a factory


@contextmanager
def stderr_without(text: bytes) -> Iterator[None]:
    """Remove the lines with this text from what the process, C++ code included, writes to stderr in the meantime."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for line in file:
                if text not in line:
                    os.write(2, line)
