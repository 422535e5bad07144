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

import pytest

from pipeline.checkpoints import hub as hub_module

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = """
import json
import sys
from pipeline.errors import CheckpointError
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints import hub
from pipeline.checkpoints.hub import resolve
hub.PINNED |= {"noise/tiny": hub.Pin(*json.loads(sys.argv[3]))} if sys.argv[3:] else {}
hub.HUB_TIMEOUT_S = 2
try:
    folder = resolve(sys.argv[1], sys.argv[2] or None)
    print(folder, Checkpoint(folder).semantic().config.n_layer)
except CheckpointError as error:
    print("refused:", error)
"""


def run(name: str, revision: str, env: dict[str, str], *pin: str) -> tuple[str, str]:
    """stdout and stderr, in a process of its own: the hub's client reads its environment once.

    `pin` is what noise/tiny is pinned to.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    command = [sys.executable, "-c", RESOLVE, name, revision, *pin]
    done = subprocess.run(command, env=clean | env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def resolve(name: str, revision: str, env: dict[str, str], *pin: str) -> str:
    return run(name, revision, env, *pin)[0]


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
    fetched, log = run("noise/tiny", "", env)
    assert log.startswith(f"model 'noise/tiny' (revision main): downloading from {endpoint}\n")
    assert fetched.endswith(f"snapshots/{COMMIT} 2"), (fetched, requests)
    assert not any("run_me.py" in r for r in requests)  # weights and settings only, never code
    requests.clear()
    for revision in ("", COMMIT):
        assert resolve("noise/tiny", revision, env | {"HF_HUB_OFFLINE": "1"}) == fetched
    assert not requests
    assert resolve("noise/tiny", COMMIT, env) == fetched
    assert not requests  # a commit can't change: no need to ask
    refused = resolve("noise/other", "", env)
    assert refused.startswith("refused: model 'noise/other' (revision main): neither a folder nor on the hub")


def test_refuses_pinned_weights_with_another_hash(hub: tuple[str, list[str]], tiny: Path, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    sha256 = hashlib.sha256((tiny / "model.safetensors").read_bytes()).hexdigest()
    pin = json.dumps([COMMIT, {"model.safetensors": sha256}])
    fetched = resolve("noise/tiny", "", env, pin)
    assert fetched.endswith(f"snapshots/{COMMIT} 2")
    assert hub[1] and not any("/main" in request for request in hub[1])
    other = resolve("noise/tiny", "", env, json.dumps([COMMIT, {"model.safetensors": "0" * 64}]))
    assert other.startswith("refused: ") and f"its SHA-256 is {sha256[:16]}..., must be 0000" in other
    weights = Path(fetched.split()[0]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")  # damaged in the cache
    assert "damaged, or not what was published" in resolve("noise/tiny", "", env, pin)


def test_offline_and_not_cached_says_what_to_do(tmp_path: Path) -> None:
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    refused = resolve("noise/tiny", COMMIT, env)
    assert "not in the cache and the hub can't be reached (HF_HUB_OFFLINE is set); give a local folder" in refused
    assert resolve("./nowhere", "", env) == "refused: model './nowhere': no such folder"


def test_unreachable_hub_is_two_lines(unreachable: str, tmp_path: Path) -> None:
    """One says what is tried, one why it failed; nothing from the hub's client."""
    refused, log = run("noise/tiny", "", {"HF_ENDPOINT": unreachable, "HF_HOME": str(tmp_path)})
    assert log == f"model 'noise/tiny' (revision main): downloading from {unreachable}\n"
    assert "not in the cache and the hub can't be reached (" in refused and len(refused.splitlines()) == 1


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
    fetched = resolve("noise/tiny", "", env)
    cached, log = run("noise/tiny", "", env | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert cached == fetched
    assert log.startswith("warning: model 'noise/tiny' (revision main): the hub can't be reached (")
    assert log.endswith(f"using the cached commit {COMMIT}\n") and len(log.splitlines()) == 1
