"""A Ray cluster in processes of its own, as `ray start` makes it: what tests of jobs and of lost machines need."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

PROJECT = Path(__file__).parent.parent
RAY = Path(sys.executable).parent / "ray"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Node:
    """One `ray start --block` and all that it started."""

    process: subprocess.Popen[bytes]

    def processes(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self.process.pid)
            return [*parent.children(recursive=True), parent]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """As a machine that is taken away. `ray stop` would end the other tests' Ray, too."""
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(timeout=30)


@dataclass
class Head:
    env: dict[str, str]  # for clients
    address: str  # of the cluster
    dashboard: str  # where jobs are submitted
    folder: Path  # of its logs
    node: Node

    @contextlib.contextmanager
    def second_node(self, num_cpus: int) -> Iterator[Node]:
        (agent,) = free_ports(1)
        options = [f"--address={self.address}", f"--num-cpus={num_cpus}", f"--dashboard-agent-listen-port={agent}"]
        node = start(self.env, self.folder, options, "second")
        try:
            yield node
        finally:
            node.kill()


@contextlib.contextmanager
def ray_head(num_cpus: int = 4, alone: bool = True) -> Iterator[Head]:
    """A head node. It shares nothing with the other tests' Ray: a second agent on Ray's default port 52365 never
    answers. Alone, it keeps to 127.0.0.1; else other nodes find it at this machine's own address."""
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0" if alone else "1"
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | settings
    folder = Path(tempfile.mkdtemp(prefix="head"))  # not tmp_path: a socket's path has 107 bytes at most
    port, dashboard, agent = free_ports(3)
    options = ["--head", f"--num-cpus={num_cpus}", f"--port={port}", f"--temp-dir={folder}"]
    options += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    node = start(env, folder, options, "start")
    try:
        host = "127.0.0.1" if alone else ray.util.get_node_ip_address()
        yield Head(env, f"{host}:{port}", f"http://127.0.0.1:{dashboard}", folder, node)
    finally:
        node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def start(env: dict[str, str], folder: Path, options: list[str], name: str) -> Node:
    with (folder / f"{name}.log").open("w") as log:
        command = [str(RAY), "start", "--block", *options]
        return Node(subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True))


def working_dir(folder: Path) -> list[str]:
    """What `ray job submit --working-dir` uploads: the project without its tests and environments."""
    for name in ("pipeline", "jobs"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return ["--working-dir", str(folder)]


def submitted(head: Head, words: list[str], timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
    """`ray job submit WORDS`, tried again while the head that has just been started is not ready."""
    command = [str(RAY), "job", "submit", "--address", head.dashboard, *words]
    not_yet = ("Failed to connect", "No available agent")
    give_up = time.monotonic() + 120
    while True:
        done = subprocess.run(command, env=head.env, capture_output=True, text=True, timeout=timeout_s, check=False)
        starting = done.returncode != 0 and any(said in done.stdout + done.stderr for said in not_yet)
        if not starting or time.monotonic() > give_up:
            return done
        time.sleep(2)
