"""Barkery's errors: a bad configuration, a bad row, and a run that did not finish.

    BarkeryError
      ConfigError        the run can't start as asked: nothing was started, exit code 2
        CheckpointError  a model file is missing, damaged or of another model
        StorageError     objects can't be read or written, and retries did not help; once a run has started, it becomes
                         an IncompleteError
      RowError           one row can't become audio: it is recorded with its reason, and the other rows go on
      IncompleteError    the run stopped before every row was written or had failed: run it again, exit code 1

Any other exception is a failure of the machine or a bug. It is not caught, and Ray runs the shard again.
"""

import re


class BarkeryError(Exception):
    """Base class of all errors that Barkery raises deliberately."""


class ConfigError(BarkeryError):
    """The configuration, the manifest or the cluster does not allow the run. The message names the file and the key."""


class CheckpointError(ConfigError):
    """A checkpoint or voice file can't be used. The message names the file and, where it applies, the keys."""


class StorageError(ConfigError):
    """An object, which the message names, can't be read or written: no permission, no space, or no response."""


class RowError(BarkeryError):
    """One row can't become audio. `kind` is a short stable word for counting; the message is for people."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind

    def __reduce__(self):  # type: ignore[no-untyped-def]  # both arguments survive pickling between processes
        return RowError, (self.kind, str(self))


class IncompleteError(BarkeryError):
    """Some rows are neither written nor failed. The message says how many, and how to continue."""


def redact(text: str) -> str:
    """The text with URLs that have no user, password or query: each may be secret (signatures, tokens)."""
    text = re.sub(r"(://)[^/\s'\"]*@", r"\1", text)
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1?...", text)


def one_line(error: BaseException) -> str:
    """A library's error as one line of at most 300 characters for a message; its class name if it has no text."""
    return redact((str(error).strip() or type(error).__name__).splitlines()[0][:300])
