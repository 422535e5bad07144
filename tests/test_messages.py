"""The command line's messages: one line, the right exit code, and no secrets."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import main
from pipeline.config import parse
from pipeline.errors import ConfigError, StorageError
from pipeline.flow import cluster
from pipeline.flow.planning import ModelInfo, settings_to_save, tokenizer_hash
from pipeline.storage import retries
from pipeline.storage.store import Store

NO_SERVER = "me:SEKRET9@127.0.0.1:9"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"id": ["a"], "text": ["Hi."]}), tmp_path / "m.parquet")
    path = tmp_path / "run.yaml"
    path.write_text(f"model: puppy\nmanifest: {tmp_path}/m.parquet\noutput: {tmp_path}/out\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["generate", "CONFIG", "--set", "storage_options.secret={SEKRET9"], "--set storage_options.secret: not valid"),
        (
            ["generate", "CONFIG", "--manifest", f"http://{NO_SERVER}/m.parquet"],
            "manifest http://127.0.0.1:9/m.parquet: ",
        ),
        (["generate", "CONFIG", "--manifest", "ftp://me:SEKRET9@127.0.0.1/m.parquet"], "manifest ftp://127.0.0.1/"),
        (["generate", "CONFIG", "--output", f"http://{NO_SERVER}/out"], "http://127.0.0.1:9/out"),
        (["generate", "CONFIG", "--output", "ftp://me:SEKRET9@127.0.0.1/out"], "output ftp://127.0.0.1/out: can't be"),
        (["status", "ftp://me:SEKRET9@127.0.0.1/out"], "output ftp://127.0.0.1/out: can't be opened"),
        (["status", f"http://{NO_SERVER}/out?sig=SEKRET9"], "http://127.0.0.1:9/out"),
        (["status", "memory://me:SEKRET9@x/out"], "no run in this folder"),
        (["status", "github://foo"], "output github://foo: can't be opened"),
        (["status", "zip://foo"], "output zip://foo: can't be opened"),
        (["status", ".", "--storage", "key={SEKRET9"], "--storage key: not valid YAML"),
        (["status", ".", "--storage", "SEKRET9"], "--storage: must be KEY=VALUE"),
        (["say", "Hi.", "-o", "FOLDER"], "folder.wav: is a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_error_is_one_line_without_secrets(
    arguments: list[str],
    expected: str,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder.wav").mkdir()
    monkeypatch.setattr(retries, "GIVE_UP_AFTER_S", 0.5)
    monkeypatch.setattr(retries, "LOG_AT_ATTEMPT", 1)
    places = {"CONFIG": str(config), "FOLDER": str(tmp_path / "folder.wav")}
    monkeypatch.setattr("sys.argv", ["barkery", *(places.get(word, word) for word in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    last = err.strip().splitlines()[-1]
    assert ended.value.code == 2 and last.startswith("error: ") and expected in last
    assert "SEKRET" not in out + err and "Traceback" not in err


def test_names_an_invalid_cluster_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="Ray at nonsense: can't connect: "):
        cluster.connect("nonsense")


def test_saved_settings_have_no_secrets() -> None:
    urls = {
        "manifest": "simplecache::https://me:SEKRET9@h/m.parquet",
        "output": "https://h/c?sv=1&sig=SEKRET9",
        "tokenizer": "https://h/t?X-Amz-Signature=SEKRET9",
    }
    config = parse({"model": "suno/bark-small"} | urls, "here")
    saved = settings_to_save(config)
    assert "SEKRET" not in str(saved)
    assert (saved["model"], saved["manifest"]) == ("suno/bark-small", "simplecache::https://h/m.parquet")
    assert parse(saved, "again").model == "suno/bark-small"  # a retry parses them again


def test_storage_errors_show_no_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(retries, "GIVE_UP_AFTER_S", 0.5)
    monkeypatch.setattr(retries, "LOG_AT_ATTEMPT", 1)

    def refused() -> None:
        raise ConnectionError("get https://me:SEKRET9@h/x?sig=SEKRET9 failed\nmore")

    with pytest.raises(StorageError) as caught:
        retries.with_retries("https://me:SEKRET9@h/x?sig=SEKRET9", refused)
    assert str(caught.value).startswith("https://h/x?...: ConnectionError: get https://h/x?... failed")
    err = capsys.readouterr().err
    assert "trying again for" in err and "SEKRET" not in err + repr(Store("https://me:SEKRET9@h/x"))


def test_tokenizer_is_part_of_the_identity(tiny: Path, tmp_path: Path) -> None:
    """Its files' contents decide: the same files in another folder are the same tokenizer."""
    config = parse({"model": str(tiny), "manifest": "m", "output": "o"}, "here")
    own = ModelInfo.check(config).identity(config)
    for name, change in (("same", ""), ("other", " ")):
        (tmp_path / name).mkdir()
        for path in tiny.glob("*.*"):
            if path.name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
                (tmp_path / name / path.name).write_text(path.read_text() + change)
        changed = config.model_copy(update={"tokenizer": str(tmp_path / name)})
        assert (ModelInfo.check(changed).identity(changed) == own) == (name == "same")
    assert own["tokenizer"] == f"sha256:{tokenizer_hash(tiny, None)}"
