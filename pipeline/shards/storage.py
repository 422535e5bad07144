"""Objects in one folder, local or in any store that fsspec knows: a whole object appears, or none."""

import os
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Store:
    """A folder by URL. Names are relative, made by us from numbers, never from data."""

    url: str
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def _place(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            fs, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        except (ValueError, ImportError, OSError) as error:
            raise ConfigError(f"output {self.url}: can't be opened: {error}") from error
        return fs, path.rstrip("/")

    @property
    def is_local(self) -> bool:
        return "file" in (p if isinstance(p := self._place[0].protocol, tuple) else (p,))

    def path(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    def put(self, name: str, content: bytes) -> None:
        """Write or replace one object: one PUT, or a temporary file renamed. Never `open(..., "wb")`: an exception
        inside it would publish the truncated object."""
        if self.is_local:
            os.replace(self._temporary(name, content), self.path(name))
        else:
            self._place[0].pipe_file(self.path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write one object if there is none of that name; False if there is."""
        if self.is_local:
            temporary = self._temporary(name, content)
            try:
                os.link(temporary, self.path(name))
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
            return True
        try:
            self._place[0].pipe_file(self.path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def get(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        return self._place[0].cat_file(self.path(name))

    def exists(self, name: str) -> bool:
        return bool(self._place[0].exists(self.path(name)))

    def names(self, folder: str) -> list[str]:
        """Names in one folder, sorted, without the folder; empty where there is none."""
        fs = self._place[0]
        fs.invalidate_cache()
        try:
            found = fs.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(n for n in (p.rstrip("/").rsplit("/", 1)[-1] for p in found) if not n.startswith("."))

    def open(self, name: str) -> Any:
        """A seekable file for reading."""
        return self._place[0].open(self.path(name), "rb")

    def check_writable(self) -> None:
        """Raises ConfigError before anything starts."""
        try:
            self.put("_plan/.writable", b"")
            self._place[0].rm_file(self.path("_plan/.writable"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"output {self.url}: can't be written: {error}") from error

    def _temporary(self, name: str, content: bytes) -> str:
        """A complete, synced file beside the target, under a hidden name that no reader lists."""
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}"
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return str(temporary)
