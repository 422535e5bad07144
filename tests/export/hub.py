"""A small Hugging Face hub on this machine: the parts of its HTTP API that an upload uses, for dataset repositories."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What was uploaded, and how the hub should fail."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # path in the repository to content, after its commit
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by hash, from before their commit
    uploads: int = 0
    refuse_after: int | None = None  # uploads of large files before the hub refuses more
    denied: bool = False  # refuses to create a repository


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self, value: Any, status: int = 200) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            body = self.body()
            if self.path == "/api/repos/create":
                if hub.denied:
                    return self.answer({"error": "Invalid credentials"}, 401)
                repo = json.loads(body)
                name = f"{repo.get('organization') or 'me'}/{repo['name']}"
                self.answer({"url": f"{hub.url}/datasets/{name}", "id": name})
            elif self.path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                large = (".parquet", ".tar", ".flac", ".wav")
                mode = {True: "lfs", False: "regular"}
                self.answer({"files": [
                    {"path": f["path"], "uploadMode": mode[f["path"].endswith(large)], "shouldIgnore": False} for f in files
                ]})  # fmt: skip
            elif self.path.endswith("/info/lfs/objects/batch"):
                wanted = json.loads(body)["objects"]
                self.answer({"transfer": "basic", "objects": [
                    {"oid": o["oid"], "size": o["size"]} | (
                        {} if o["oid"] in hub.objects else {"actions": {"upload": {"href": f"{hub.url}/put/{o['oid']}"}}}
                    ) for o in wanted
                ]})  # fmt: skip
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        hub.files[value["path"]] = hub.objects[value["oid"]]
                self.answer({"commitUrl": f"{hub.url}/datasets/me/x/commit/1", "commitOid": "1" * 40, "success": True})
            else:
                self.answer({"error": self.path}, 404)

        def do_PUT(self) -> None:
            body = self.body()
            if hub.refuse_after is not None and hub.uploads >= hub.refuse_after:
                return self.answer({"error": "no more"}, 403)
            hub.uploads += 1
            hub.objects[self.path.rpartition("/")[2]] = body
            self.answer({})

        def do_GET(self) -> None:
            if hub.denied:
                return self.answer({"error": "Invalid credentials"}, 401)
            self.answer({"id": "me/x", "sha": "0" * 40, "siblings": [], "private": False})

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def fake_hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
