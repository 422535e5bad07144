"""The project's logger: plain lines for people, JSON lines for programs."""

import json
from collections.abc import Iterator

import pytest

from pipeline.errors import ConfigError
from pipeline.log import configure, fields, log, log_format


@pytest.fixture(autouse=True)
def default_format() -> Iterator[None]:
    yield
    configure()


def test_text_shows_message_and_level_of_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text")
    log.info("3 rows written", extra=fields(rows=3))
    log.warning("trying again")
    log.debug("not shown")
    assert capsys.readouterr().err == "3 rows written\nwarning: trying again\n"
    assert log_format() == "text"


def test_json_is_one_object_per_line_with_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "debug")
    log.info("two\nlines, für %s", "alle", extra=fields(rows=3, eta_s=None))
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {"level": "info", "message": "two\nlines, für alle", "rows": 3, "eta_s": None}
    assert second["level"] == "error" and "ValueError: broken" in second["exception"]
    assert log_format() == "json"


def test_level_hides_what_is_below(capsys: pytest.CaptureFixture[str]) -> None:
    configure(level="error")
    log.warning("hidden")
    log.error("shown")
    assert capsys.readouterr().err == "error: shown\n"


def test_unknown_format_and_level_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown log format 'xml': use text or json"):
        configure("xml")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown log level 'loud': use one of debug, info"):
        configure(level="loud")
