"""The project's logger: `from pipeline.log import log`. Messages for people or for programs, on stderr.

    text    the message as it is; warnings and errors with their level before it
    json    one object per line: time (UTC), level, message, and the fields of the record

Fields are passed as `log.info(message, extra=fields(rows_done=3))`; text shows the message alone.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pipeline.errors import ConfigError

LogFormat = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")

log = logging.getLogger("barkery")


def configure(log_format: LogFormat = "text", level: str = "info") -> None:
    """Set the format and the lowest level of all messages of this process; the last call counts.

    Raises:
        ConfigError: unknown format or level.
    """
    if log_format not in get_args(LogFormat):
        raise ConfigError(f"unknown log format {log_format!r}: use {' or '.join(get_args(LogFormat))}")
    if level not in LEVELS:
        raise ConfigError(f"unknown log level {level!r}: use one of {', '.join(LEVELS)}")
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    log.handlers = [handler]
    log.propagate = False  # the root logger belongs to the application: Ray and others print through it
    log.setLevel(level.upper())


def log_format() -> LogFormat:
    """The format that is configured now."""
    return "json" if isinstance(log.handlers[0].formatter, JsonFormatter) else "text"


def fields(**values: Any) -> dict[str, Any]:
    """The `extra` of a log call: values that the JSON format adds to its object."""
    return {"fields": values}


class StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: rich replaces it while progress bars are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return level + super().format(record)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        values = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        values |= getattr(record, "fields", {})
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False)


configure()
