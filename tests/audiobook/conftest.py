"""A small book, made once by the tiny model in the test's own process."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.audiobook.config import AudiobookConfig
from pipeline.audiobook.job import Shelf, make_audiobooks, open_output, read_scripts
from pipeline.config import STAGES, parse_as
from tests.books.make_epub import make_epub
from tests.flow.in_process import replace_ray

STORY = (
    '<h1 id="one">One & only</h1><p>The first text is here. The second text is "there", she said.</p>'
    '<h1 id="two">Zwölf</h1><p>The third text is here.</p><p>And a fourth one follows.</p>'
).replace("&", "&amp;")
TOC = [("One & only", "a.xhtml#one"), ("Zwölf", "a.xhtml#two")]


def write_story(path: Path, body: str = STORY) -> Path:
    path.write_bytes(make_epub({"a.xhtml": body}, TOC))
    return path


@dataclass(frozen=True)
class Maker:
    """Makes audiobooks with the tiny model."""

    model: Path

    def config(self, **changes: Any) -> AudiobookConfig:
        values: dict[str, Any] = {
            "model": str(self.model),
            "narrator": "v2/en_speaker_6",
            "rows_per_shard": 2,
            "sampling": {"max_semantic_tokens": 60},
            "segments": {"max_tokens": 200},
            "pools": {stage: {"num_cpus": 1, "slots": 4} for stage in STAGES},
        }
        return parse_as(AudiobookConfig, values | changes, "test")

    def make(self, book: Path, output: Path, chapters: str | None = None, **changes: Any) -> Shelf:
        config = self.config(**changes)
        with pytest.MonkeyPatch.context() as patch:
            replace_ray(patch)
            scripts = read_scripts([str(book)], config, chapters)
            return make_audiobooks(scripts, open_output(str(output), config), config, None)


@pytest.fixture(scope="session")
def maker(tiny: Path) -> Maker:
    return Maker(tiny)


@pytest.fixture(scope="session")
def made(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished story; tests work on copies."""
    folder = tmp_path_factory.mktemp("made")
    shelf = maker.make(write_story(folder / "story.epub"), folder)
    assert (shelf.num_new, shelf.num_kept, shelf.num_missing) == (6, 0, 0)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))
