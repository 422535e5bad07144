"""A Ray cluster in processes of its own, as `ray start` makes it, for tests of jobs and of lost nodes."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

PROJECT = Path(__file__).parent.parent
RAY = Path(sys.executable).parent / "ray"


# Outside of Ray's own ports (to 19999) and of those that Linux assigns by itself (from 32768): between the check and the
# server's start, no connection can take the port, and a random choice keeps two test runs apart.
PORTS = range(20_000, 32_768)


def free_ports(count: int) -> list[int]:
    """Different ports of this machine on which nothing listens."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} free ports in {PORTS}")


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
        """End all of it at once, like a machine that is lost. `ray stop` would end the other tests' Ray, too."""
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(timeout=30)


@dataclass
class Head:
    env: dict[str, str]  # for clients
    address: str  # of the cluster
    dashboard: str  # where jobs are submitted
    agent: str  # its health check; it starts the jobs
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
    """A head node that shares nothing with the other tests' Ray: a second agent on Ray's default port 52365 never
    answers. With `alone`, it listens on 127.0.0.1 only; else other nodes reach it at this machine's own address."""
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
        urls = f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{agent}/api/local_raylet_healthz"
        yield Head(env, f"{host}:{port}", *urls, folder, node)
    finally:
        node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def start(env: dict[str, str], folder: Path, options: list[str], name: str) -> Node:
    with (folder / f"{name}.log").open("w") as log:
        command = [str(RAY), "start", "--block", *options]
        return Node(subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True))


def working_dir(folder: Path) -> list[str]:
    """Copy the project without its tests and environments; the options of `ray job submit` that upload it."""
    for name in ("pipeline", "jobs"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return ["--working-dir", str(folder)]


def submitted(head: Head, words: list[str], timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
    """`ray job submit WORDS`, once the head's dashboard and agent answer; tried again while they refuse."""
    command = [str(RAY), "job", "submit", "--address", head.dashboard, *words]
    not_yet = ("Failed to connect", "No available agent")
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and not (answers(f"{head.dashboard}/api/version") and answers(head.agent)):
        time.sleep(0.2)
    while True:
        done = subprocess.run(command, env=head.env, capture_output=True, text=True, timeout=timeout_s, check=False)
        starting = done.returncode != 0 and any(text in done.stdout + done.stderr for text in not_yet)
        if not starting or time.monotonic() > give_up:
            return done
        time.sleep(2)


def answers(url: str) -> bool:
    """Whether a server answers there with success."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return bool(response.status == 200)
    except OSError:  # URLError, HTTPError, timeouts
        return False
