"""From a book to an M4B and back: what is spoken, kept and missing, and what the file has."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pyloudnorm
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.audiobook import sound
from pipeline.audiobook import speak as speaking
from pipeline.audiobook.assemble import chapter_jobs, with_gains
from pipeline.audiobook.chapter import pieces
from pipeline.audiobook.job import open_output, read_scripts
from pipeline.audiobook.manifest import write_manifest
from pipeline.audiobook.speak import first_own_voice, narrator, speak
from pipeline.cli.main import app
from pipeline.spec import SAMPLE_RATE
from tests.audiobook.conftest import STORY, Maker, write_story
from tests.books.make_epub import PNG
from tests.flow.in_process import replace_ray


def samples_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(file.streams.audio[0])])


def test_m4b_has_chapters_cover_and_tags(made: Path) -> None:
    with av.open(str(made / "story.m4b")) as file:
        assert [chapter["metadata"]["title"] for chapter in file.chapters()] == ["One & only", "Zwölf"]
        tags = file.metadata
        assert tags["title"] == "The Book" and tags["artist"] == "A. Writer" and tags["media_type"] == "2"
        assert "synthetic" in tags["comment"] and "v2/en_speaker_6" in tags["composer"]
        assert [packet.size for packet in file.demux(file.streams.video[0]) if packet.size] == [len(PNG)]
    content = (made / "story.m4b").read_bytes()
    assert all(name in content for name in (b"stik", b"covr", b"chpl"))  # chpl: Nero's chapters; the others are a track


@pytest.mark.parametrize("preset", ["podcast", "ebu-r128", "acx-levels"])
def test_loudness_and_true_peak(copy: Path, maker: Maker, preset: str) -> None:
    assert maker.make(copy / "story.epub", copy, sound={"preset": preset}).num_new == 0
    samples, settings = samples_of(copy / "story.m4b"), maker.config(sound={"preset": preset}).sound
    loudness = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(samples)
    assert abs(loudness - settings.lufs) < 0.5
    assert 20 * np.log10(sound.envelope(samples).max()) <= settings.true_peak_db


def test_joints_have_no_step(made: Path, maker: Maker) -> None:
    """Every sentence begins and ends at zero, so that what is heard at a joint is no click."""
    (script,) = read_scripts([str(made / "story.epub")], config := maker.config(), None)
    store = open_output(str(made), config)
    spoken = speak(store, config, script.rows, None)
    jobs = with_gains(chapter_jobs(store, script, config, spoken), {"v2/en_speaker_6": 0.0})
    for job in jobs:
        for line, samples in pieces(job):
            if line is not None:
                assert max(abs(samples[0]), abs(samples[-1])) < 0.01 < np.abs(samples).max()


def test_times_are_those_of_the_sound(made: Path) -> None:
    """All between the sentences is silent, and each sentence is not; subtitles have the same times."""
    record, samples = json.loads((made / "story.json").read_text()), samples_of(made / "story.m4b")
    spans = [s for chapter in record["chapters"] for s in chapter["sentences"]]
    inside = np.zeros(len(samples), bool)
    for span in spans:
        first, last = (round(span[name] * SAMPLE_RATE) for name in ("start_s", "end_s"))
        inside[first:last] = True
        assert np.abs(samples[first:last]).max() > 0.05
    edge = 1024  # AAC spreads a sound by up to one of its blocks
    outside = np.convolve(inside, np.ones(2 * edge + 1), "same") == 0
    assert outside.sum() > 5 * SAMPLE_RATE and np.abs(samples[outside]).max() < 1e-3
    srt = (made / "story.srt").read_text()
    assert len(spans) == 6 == srt.count(" --> ") and '"there", she said.' in srt
    assert (made / "story.vtt").read_text().startswith("WEBVTT\n\n00:00:0") and "One &amp; only" in (
        made / "story.vtt"
    ).read_text()
    assert abs(record["duration_s"] * SAMPLE_RATE - len(samples)) <= 1024


def test_a_second_call_speaks_nothing_and_the_file_is_the_same_when_made_again(copy: Path, maker: Maker) -> None:
    before = (copy / "story.m4b").read_bytes()
    shelf = maker.make(copy / "story.epub", copy)
    assert (shelf.num_new, shelf.num_kept) == (0, 6)
    (copy / "story.m4b").unlink()
    shutil.rmtree(copy / "_work" / "parts")
    assert maker.make(copy / "story.epub", copy).num_new == 0
    assert (copy / "story.m4b").read_bytes() == before


def test_a_call_that_was_killed_half_way_goes_on(copy: Path, maker: Maker) -> None:
    before = (copy / "story.m4b").read_bytes()
    (settings,) = (path for path in (copy / "_work").iterdir() if path.name not in ("parts", "books"))
    (run,) = (path for path in settings.iterdir() if path.is_dir())
    (run / "_commits" / "part-00001.json").unlink()  # as if it had been killed before the second commit of three
    Path(f"{run}.done").unlink()
    (copy / "story.m4b").unlink()
    (copy / "story.json").unlink()
    shelf = maker.make(copy / "story.epub", copy)
    assert (shelf.num_new, shelf.num_kept) == (2, 4)
    assert (copy / "story.m4b").read_bytes() == before


def test_an_edited_sentence_is_spoken_alone(copy: Path, maker: Maker) -> None:
    before = (copy / "story.m4b").read_bytes()
    write_story(copy / "story.epub", STORY.replace("The third text", "The changed text"))
    shelf = maker.make(copy / "story.epub", copy)
    assert (shelf.num_new, shelf.num_kept) == (1, 5)
    assert (copy / "story.m4b").read_bytes() != before
    write_story(copy / "story.epub")
    assert maker.make(copy / "story.epub", copy).num_new == 0
    assert (copy / "story.m4b").read_bytes() == before


def test_an_edited_manifest_is_accepted(copy: Path, maker: Maker) -> None:
    config = maker.config()
    (script,) = read_scripts([str(copy / "story.epub")], config, None)
    write_manifest(open_output(str(copy), config), script)
    before = (copy / "story.m4b").read_bytes()
    table = pq.read_table(copy / "story.parquet").to_pandas()  # pandas drops the schema's metadata
    table.loc[2, "text_spoken"] = "A respelled text is here."
    table.to_parquet(copy / "story.parquet")
    shelf = maker.make(copy / "story.parquet", copy)
    assert (shelf.num_new, shelf.num_kept) == (1, 5)
    assert "The second text" in (copy / "story.srt").read_text()
    write_manifest(open_output(str(copy), config), script)
    maker.make(copy / "story.parquet", copy)
    assert (copy / "story.m4b").read_bytes() == before  # with cover and author


def test_only_some_chapters(copy: Path, maker: Maker) -> None:
    shelf = maker.make(copy / "story.epub", copy, chapters="2")
    assert (shelf.num_new, shelf.num_kept) == (0, 3)
    with av.open(str(copy / "story.m4b")) as file:
        assert [chapter["metadata"]["title"] for chapter in file.chapters()] == ["Zwölf"]


def test_a_missing_sentence_is_named_and_never_silently_left_out(copy: Path, maker: Maker) -> None:
    write_story(copy / "story.epub", STORY.replace("The third text is here.", "x" * 400))
    (copy / "story.m4b").unlink()
    shelf = maker.make(copy / "story.epub", copy)
    assert (shelf.num_new, shelf.num_missing, shelf.books[0].is_made) == (0, 1, False)
    assert "without a place to split" in shelf.books[0].missing[0]["reason"]
    assert not (copy / "story.m4b").exists()
    assert json.loads((copy / "story.json").read_text())["failed"][0]["text"] == "x" * 400
    durations = []
    for choice in ("pause", "tone"):
        shelf = maker.make(copy / "story.epub", copy, sound={"missing": choice})
        assert (shelf.num_missing, shelf.books[0].is_made) == (1, True)
        durations.append(shelf.books[0].duration_s)
    assert durations[0] != durations[1]


def test_command_line(copy: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lines say what was spoken; exit code 3 for a missing sentence."""
    replace_ray(monkeypatch)
    settings = maker.config().model_dump(mode="json", exclude={"manifest", "output"})
    (copy / "book.yaml").write_text(yaml.safe_dump(settings))
    call = ["audiobook", str(copy / "story.epub"), "-o", str(copy), "--config", str(copy / "book.yaml")]
    result = CliRunner().invoke(app, call)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "0 sentences spoken, 6 kept"), result.output
    write_story(copy / "story.epub", STORY.replace("The third text is here.", "x" * 400))
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 3 and "not made, 1 sentence missing" in result.stdout


def test_the_model_is_asked_once_for_its_voices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, maker: Maker) -> None:
    """Not for each sentence: a hub model that is not pinned would need a request each time."""
    asked: list[str] = []
    voices = tmp_path / "voices"
    voices.mkdir()
    (voices / "low.npz").touch()
    (voices / "calm.npz").touch()
    monkeypatch.setattr(speaking, "resolve", lambda name, revision: asked.append(name) or tmp_path)
    config = maker.config(narrator=None, model="some/model")
    first_own_voice.cache_clear()
    assert [narrator(config, language) for language in ("en", "de", "en-US")] == ["calm"] * 3
    assert asked == ["some/model"]
    first_own_voice.cache_clear()
