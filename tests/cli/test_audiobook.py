"""`barkery audiobook` up to the manifest."""

from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
from typer.testing import CliRunner

from pipeline.books.rows import SCHEMA
from pipeline.cli.main import app
from pipeline.errors import ConfigError
from tests.books.make_epub import make_epub

BODY = (
    '<h1 id="one">One</h1><p>The first text here.</p><h1 id="two">Two</h1><p>The second text here. And a third one.</p>'
)
TOC = [("One", "a.xhtml#one"), ("Two", "a.xhtml#two")]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["audiobook", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_manifest_only(tmp_path: Path) -> None:
    (tmp_path / "b.epub").write_bytes(make_epub({"a.xhtml": BODY}, TOC))
    out = tmp_path / "out"
    assert "2 chapters, 5 sentences" in run(str(tmp_path), "--manifest-only", "--csv", "-o", str(out))
    table = pq.read_table(out / "b.parquet")
    assert table.schema.equals(SCHEMA)
    assert pyarrow.csv.read_csv(out / "b.csv")["text"].to_pylist() == table["text"].to_pylist()
    first = (out / "b.parquet").read_bytes()
    run(str(tmp_path / "b.epub"), "--manifest-only", "-o", str(out))
    assert (out / "b.parquet").read_bytes() == first
    run(str(tmp_path / "b.epub"), "--manifest-only", "-o", str(out), "--chapters", "2")
    assert pq.read_table(out / "b.parquet")["text"].to_pylist() == ["Two", "The second text here.", "And a third one."]


def test_preview(tmp_path: Path) -> None:
    (tmp_path / "b.epub").write_bytes(make_epub({"a.xhtml": BODY + "<table/>"}, TOC))
    shown = run(str(tmp_path / "b.epub"), "--preview")
    assert "The Book by A. Writer" in shown and "2 chapters, 5 sentences" in shown
    assert "skipped: 1 table" in shown and "The second text here. And a third one." in shown
    assert list(tmp_path.iterdir()) == [tmp_path / "b.epub"]


def test_what_bark_does_not_speak_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.epub").write_bytes(make_epub({"a.xhtml": BODY}, TOC, language="ar"))
    assert "not spoken: language ar" in run(str(tmp_path), "--preview")
    book, out = str(tmp_path / "b.epub"), str(tmp_path / "out")
    result = CliRunner().invoke(app, ["audiobook", book, "--manifest-only", "-o", out])
    assert isinstance(result.exception, ConfigError) and "Bark speaks en, de" in str(result.exception)
    run(book, "--manifest-only", "-o", out, "--set", "book.language=en")


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["audiobook", str(tmp_path), "--preview", "--set", "book.langage=en"])
    assert isinstance(result.exception, ConfigError) and "did you mean language?" in str(result.exception)
