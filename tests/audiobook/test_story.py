"""The example story: its EPUB, and what is spoken of it."""

from pathlib import Path

import pytest

from pipeline.audiobook.config import AudiobookConfig, load_audiobook_config
from pipeline.audiobook.job import read_scripts
from scripts.make_story import CHAPTERS, story

PROJECT = Path(__file__).parent.parent.parent
STORY = PROJECT / "examples" / "story.epub"


@pytest.fixture(scope="module")
def config() -> AudiobookConfig:
    return load_audiobook_config(PROJECT / "configs" / "audiobook.yaml")


def test_the_epub_is_what_the_script_makes() -> None:
    assert STORY.read_bytes() == story()


def test_what_is_spoken(config: AudiobookConfig) -> None:
    (script,) = read_scripts([str(STORY)], config)
    assert list(dict.fromkeys(row.chapter_title for row in script.rows)) == list(CHAPTERS)
    spoken = [row.text_spoken for row in script.rows]
    assert spoken[:2] == [
        "Chapter one. The Road", "On May third, nineteen twenty-one, Anna walked to the old tower.",
    ]  # fmt: skip
    assert "She had twelve apples and a small lamp." in spoken and not any("forty years" in text for text in spoken)
    (with_notes,) = read_scripts([str(STORY)], load_audiobook_config(None, ["book.footnotes=end"]))
    assert "He had kept the tower for forty years." in [row.text_spoken for row in with_notes.rows]
