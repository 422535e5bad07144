"""Three kinds of failure, and nothing else is caught anywhere.

    BarkeryError
      ConfigError        the run can't start as asked: nothing was started, exit code 2
        CheckpointError  a model file is missing, damaged or of another model
        StorageError     objects can't be read or written, and trying again did not help; once a run has begun, it
                         becomes an IncompleteError
      RowError           one row can't be spoken: it is recorded with its reason, the others go on
      IncompleteError    the run stopped before every row had its place: run it again, exit code 1

Anything else is the machine going wrong: it raises, and Ray runs the shard again.
"""

import re


class BarkeryError(Exception):
    """Base of all errors that Barkery raises on purpose."""


class ConfigError(BarkeryError):
    """The configuration, the manifest or the cluster does not allow the run. Names the file and the key."""


class CheckpointError(ConfigError):
    """A checkpoint or voice file can't be used. Names the file and, where it applies, the keys."""


class StorageError(ConfigError):
    """An object can't be read or written: no permission, no space, or no answer after many tries. Names the object."""


class RowError(BarkeryError):
    """One row can't be spoken; `kind` is a short stable word for counting, the message is for people."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind

    def __reduce__(self):  # type: ignore[no-untyped-def]  # both arguments survive pickling between processes
        return RowError, (self.kind, str(self))


class IncompleteError(BarkeryError):
    """Rows are left that are neither written nor failed; the message says how many and how to go on."""


def redact(text: str) -> str:
    """A text whose URLs have lost what may be secret: user, password and the query (signatures, tokens)."""
    text = re.sub(r"(://)[^/\s'\"]*@", r"\1", text)
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1?...", text)


def one_line(error: BaseException) -> str:
    """What a library says of a user's file, for a message of ours: its first line, without the file's own bytes at
    length; the error's name where it says nothing."""
    return redact((str(error).strip() or type(error).__name__).splitlines()[0][:300])
