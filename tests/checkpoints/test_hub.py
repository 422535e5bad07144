"""Models by hub id: downloaded once from a server that answers as the hub does, then used offline."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoints import hub as hub_module

pytestmark = pytest.mark.slow
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = """
import json
import sys
from pipeline.errors import CheckpointError
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints import hub
from pipeline.checkpoints.hub import resolve
hub.HUB_TIMEOUT_S = 2
for name, revision, pin in json.loads(sys.argv[1]):
    hub.PINNED |= {"noise/tiny": hub.Pin(*pin)} if pin else {}
    try:
        folder = resolve(name, revision)
        print(folder, Checkpoint(folder).semantic().config.n_layer)
    except CheckpointError as error:
        print("refused:", error)
"""
TINY = ("noise/tiny", None, None)
Model = tuple[str, str | None, list[Any] | None]  # name, revision, and what noise/tiny is pinned to


def run(env: dict[str, str], *models: Model) -> tuple[list[str], str]:
    """The answer for each model, and stderr. In a new process: the hub's client reads its environment once."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    command = [sys.executable, "-c", RESOLVE, json.dumps(models)]
    done = subprocess.run(command, env=clean | env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines(), done.stderr


def resolve(env: dict[str, str], *models: Model) -> list[str]:
    return run(env, *models)[0]


@pytest.fixture(params=["closed port", "never answers", "status 503"])
def unreachable(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address where no hub answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if request.param == "closed port":
            server.close()
        if request.param == "status 503":

            def refuse() -> None:
                while True:
                    try:
                        client, _ = server.accept()
                    except OSError:  # closed: the test is over
                        return
                    with client:
                        client.recv(9999)
                        client.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

            threading.Thread(target=refuse, daemon=True).start()
        yield address


@pytest.fixture
def hub(tiny: Path) -> Iterator[tuple[str, list[str]]]:
    """A server with one repository, noise/tiny; yields its address and the requests it got."""
    requests: list[str] = []
    names = [p.name for p in tiny.iterdir()] + ["run_me.py"]

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests.append(f"{self.command} {self.path}")
            path = self.path.split("?")[0]
            if path.startswith("/api/models/noise/tiny/revision/"):
                body = json.dumps({"id": "noise/tiny", "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]})
                return self.answer(200, body.encode(), {"Content-Type": "application/json"})
            if path.startswith(f"/api/models/noise/tiny/tree/{COMMIT}"):
                sizes = {n: (tiny / n).stat().st_size if (tiny / n).exists() else 9 for n in names}
                tree = [{"type": "file", "path": n, "size": sizes[n], "oid": n} for n in names]
                return self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
            name = path.rsplit("/", 1)[-1]
            if path.startswith("/noise/tiny/resolve/") and (tiny / name).exists():
                content = (tiny / name).read_bytes()
                etag = hashlib.sha256(content).hexdigest()
                return self.answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()


def test_downloads_once_and_then_works_offline(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, requests = hub
    env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    (fetched, refused), log = run(env, TINY, ("noise/other", None, None))
    assert log.startswith(f"model 'noise/tiny' (revision main): downloading from {endpoint}\n")
    assert fetched.endswith(f"snapshots/{COMMIT} 2"), (fetched, requests)
    assert not any("run_me.py" in r for r in requests)  # weights and settings only, never code
    assert refused.startswith("refused: model 'noise/other' (revision main): neither a folder nor on the hub")
    requests.clear()
    known = ("noise/tiny", COMMIT, None)
    assert resolve(env | {"HF_HUB_OFFLINE": "1"}, TINY, known) == [fetched, fetched]
    assert resolve(env, known) == [fetched]
    assert not requests  # offline; and a commit can't change: no need to ask


def test_refuses_pinned_weights_with_another_hash(hub: tuple[str, list[str]], tiny: Path, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    sha256 = hashlib.sha256((tiny / "model.safetensors").read_bytes()).hexdigest()
    pins = [[COMMIT, {"model.safetensors": expected}] for expected in (sha256, "0" * 64)]
    fetched, other = resolve(env, *(("noise/tiny", None, pin) for pin in pins))
    assert fetched.endswith(f"snapshots/{COMMIT} 2")
    assert hub[1] and not any("/main" in request for request in hub[1])
    assert other.startswith("refused: ") and f"its SHA-256 is {sha256[:16]}..., must be 0000" in other
    weights = Path(fetched.split()[0]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")  # damaged in the cache
    (damaged,) = resolve(env, ("noise/tiny", None, pins[0]))
    assert "damaged, or not what was published" in damaged


def test_offline_and_not_cached_says_what_to_do(tmp_path: Path) -> None:
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    refused, no_folder = resolve(env, ("noise/tiny", COMMIT, None), ("./nowhere", None, None))
    assert "not in the cache and the hub can't be reached (HF_HUB_OFFLINE is set); give a local folder" in refused
    assert no_folder == "refused: model './nowhere': no such folder"


def test_unreachable_hub_is_two_lines(unreachable: str, tmp_path: Path) -> None:
    """One says what is tried, one why it failed; nothing from the hub's client."""
    (refused,), log = run({"HF_ENDPOINT": unreachable, "HF_HOME": str(tmp_path)}, TINY)
    assert log == f"model 'noise/tiny' (revision main): downloading from {unreachable}\n"
    assert "not in the cache and the hub can't be reached (" in refused


def test_gives_up_on_an_unreachable_hub_in_time(
    unreachable: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert hub_module.HUB_TIMEOUT_S < 10
    monkeypatch.setattr(hub_module, "HUB_TIMEOUT_S", 1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    start = time.monotonic()
    problem = hub_module.hub_problem(unreachable)
    assert time.monotonic() - start < 6  # a loaded machine may add some seconds to one
    expected = {"closed port": "refused", "never answers": "no answer within 1 s", "status 503": "HTTP status 503"}
    assert problem and expected[request.node.callspec.params["unreachable"]] in problem


def test_unreachable_hub_and_a_cached_branch_uses_the_cache(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    fetched = resolve(env, TINY)
    cached, log = run(env | {"HF_ENDPOINT": "http://127.0.0.1:9"}, TINY)
    assert cached == fetched
    assert log.startswith("warning: model 'noise/tiny' (revision main): the hub can't be reached (")
    assert log.endswith(f"using the cached commit {COMMIT}\n") and len(log.splitlines()) == 1
