"""Manifests over HTTP: signed URLs, servers that fail for a while, and servers that always fail."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError, StorageError
from pipeline.manifest.manifest import Manifest
from pipeline.storage import retries


class ManifestServer(ThreadingHTTPServer):
    """Serves one Parquet file after a number of failures of kind `how`: a status code, or `cut` in the body."""

    daemon_threads = True
    content = b""
    failures = 0
    how = "503"


class Handler(BaseHTTPRequestHandler):
    server: ManifestServer

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        content, cut = self.server.content, self.server.how == "cut"
        fails = self.server.failures > 0 and (with_body or not cut)
        self.server.failures -= fails
        if fails and not cut:
            self.send_response(int(self.server.how))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        first, last = 0, len(content) - 1
        if asked := self.headers.get("Range"):
            first, last = (int(x) for x in asked.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.end_headers()
        if with_body:
            self.wfile.write(part[: len(part) // 2] if fails else part)
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ManifestServer]:
    monkeypatch.setattr(retries, "GIVE_UP_AFTER_S", 1.0)
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.03)
    http = ManifestServer(("127.0.0.1", 0), Handler)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": [f"r{i}" for i in range(100)], "text": ["A sentence."] * 100}), buffer)
    http.content = buffer.getvalue()
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http
    http.shutdown()


def url(server: ManifestServer, query: str = "") -> str:
    return f"http://me:SECRET@127.0.0.1:{server.server_port}/m.parquet{query}"


@pytest.mark.parametrize("query", ["", "?X-Amz-Signature=SECRET/_x*[&a=b"])
def test_reads_signed_urls(server: ManifestServer, query: str) -> None:
    assert Manifest(url(server, query)).check() == 100


@pytest.mark.parametrize("how", ["503", "cut"])
def test_retries_temporary_failures(server: ManifestServer, how: str) -> None:
    server.how, server.failures = how, 3
    assert Manifest(url(server)).check() == 100


@pytest.mark.parametrize("how", ["503", "cut", "403", "404"])
def test_permanent_failures_are_one_line_without_secrets(
    server: ManifestServer, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.how, server.failures = how, 10_000
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1.*m\.parquet") as caught:
        Manifest(url(server, "?sig=SECRET")).check()
    message = str(caught.value)
    assert "\n" not in message and "SECRET" not in message + repr(Manifest(url(server))) + capsys.readouterr().err
    assert isinstance(caught.value, StorageError) == (how != "404")
    assert ("tried" in message) == (how in ("503", "cut"))  # the others are permanent


def test_missing_credentials_are_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(StorageError, match=r"manifest s3://nobody-bucket/m\.parquet: NoCredentialsError"):
        Manifest("s3://nobody-bucket/m.parquet").check()
