"""The report: its numbers, its choice of clips, and the page in a real browser (skipped where there is no Chromium)."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import main
from pipeline.report.clips import LONGEST_S, PAGE_BYTES, PICTURE_BYTES, differences, render_clip, sound_budget
from pipeline.report.measures import MEASURES, quantile
from pipeline.report.page import for_script, make_report
from pipeline.report.pictures import mel_picture, mp3, waveform
from pipeline.report.scan import Scan, choose, scan_table
from pipeline.shards.audio import encode
from pipeline.storage.store import Store
from tests.export.conftest import FAILED, make_output

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_output(tmp_path_factory.mktemp("report") / "out")


@pytest.fixture(scope="module")
def page_file(output: Path) -> Path:
    path = output.parent / "report.html"
    path.write_bytes(make_report(Store(str(output)), clips=30).html)
    return path


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found
    return dict(json.loads(found[1]))


def test_page_has_the_numbers_and_reads_nothing_from_outside(page_file: Path) -> None:
    html = page_file.read_text()
    for text in ("<td>40</td>", "<td>39</td>", "empty_text", "duration, s", "characters per second"):
        assert text in html, text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", html) and "default-src 'none'" in html
    data = data_of(html)
    written = [clip for clip in data["clips"] if not clip.get("failed")]
    assert len(written) == 30 and html.count('type="text/plain" id="sound') == 30
    reasons = {reason for clip in data["clips"] for reason in clip["reasons"]}
    assert reasons >= {"random", "failed", "low duration", "high duration", "voice v2/en_speaker_1", "voice (none)"}
    shortest = min(written, key=lambda clip: clip["duration"])
    assert "low duration" in shortest["reasons"]
    (failed,) = (clip for clip in data["clips"] if clip.get("failed"))
    assert failed["id"] == FAILED and failed["columns"]["error_message"] == "no words"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    assert "</script" not in for_script({"a": "</script><script>alert(1)</script><!--"})
    output = make_output(tmp_path / "<img src=x onerror=alert(1)>")
    html = make_report(Store(str(output)), clips=3).html.decode()
    assert "<img src=x" not in html and "&lt;img src=x" in html


def test_choice_takes_turns_and_depends_on_rows_alone() -> None:
    rng = np.random.default_rng(0)
    quality = [
        {"snr_db": float(x), "lufs": -20.0, "wer": float(x) / 80, "verdict": "accepted"}
        for x in rng.uniform(0, 80, 300)
    ]
    table = pa.table(
        {
            "id": [f"row {i}" for i in range(300)],
            "text": ["some words"] * 300,
            "voice": [f"v{i % 3}" for i in range(300)],
            "language": ["en"] * 300,
            "duration": rng.uniform(1, 9, 300),
            "stop": ["eos"] * 300,
            "quality": quality,
            "attempts": [[{"segment": None}]] * 299 + [[{"segment": 0}, {"segment": None}, {"segment": None}]],
        }
    )
    whole = Scan(20)
    scan_table(whole, 0, table)
    chosen = choose(whole, 20)
    assert len(chosen) == 20 and whole.attempts == {1: 299, 2: 1} and whole.verdicts == {"accepted": 300}
    worst = table["id"][int(np.argmin([each["snr_db"] for each in quality]))].as_py()
    assert any(candidate.id == worst and "low snr_db" in reasons for candidate, reasons in chosen.items())
    halves = Scan(20)
    for part, start in ((1, 150), (0, 0)):  # in another order
        half = Scan(20)
        scan_table(half, part, table.slice(start, 150))
        halves.add(half)
    assert {c.id for c in choose(halves, 20)} == {c.id for c in chosen}
    for group, counts in whole.groups.items():
        assert all(np.array_equal(counts[name], halves.groups[group][name]) for name in counts)
    duration = next(measure for measure in MEASURES if measure.name == "duration")
    middle = quantile(whole.groups["", "all"]["duration"], duration.edges, 0.5)
    assert middle == pytest.approx(np.median(table["duration"]), abs=0.3)


def test_pictures_show_the_sound() -> None:
    rate = 24_000
    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype(np.int16)
    sound = np.concatenate([np.zeros(rate, np.int16), tone])
    peaks = waveform(sound)
    assert max(peaks[:155]) == 0 and min(peaks[165:]) >= 23 and len(peaks) == 320
    picture = mel_picture(sound, rate)
    assert picture.startswith(b"\x89PNG") and len(picture) < PICTURE_BYTES
    assert waveform(np.zeros(0, np.int16)) == [0] * 320 and mel_picture(np.zeros(10, np.int16), rate)
    assert len(mp3(sound, rate, 24)) < len(mp3(sound, rate, 64)) / 2


def test_five_hundred_clips_stay_below_forty_megabytes() -> None:
    budget = sound_budget(500)
    assert 500 * (budget + PICTURE_BYTES) * 4 / 3 <= PAGE_BYTES * 1.2 < 40 * 10**6 * 1.1
    noise = np.random.default_rng(0).normal(0, 3000, 24_000 * 40).astype(np.int16)  # 40 s
    row = {"id": "a", "text": "t", "seed": 1, "audio": {"bytes": encode(noise, "flac")}}
    clip = render_clip(Store("/nowhere"), 0, row, [], budget)
    assert (len(clip.sound) + len(clip.picture)) * 500 < 39 * 10**6
    assert clip.values["duration"] == 40 and clip.values["heard"] < LONGEST_S


def test_differences_ignore_case_and_punctuation() -> None:
    assert differences("The cat, sat.", "the cat sat") == [["=", "The cat, sat."]]
    assert differences("The cat sat down", "the hat sat") == [
        ["=", "The"],
        ["-", "cat"],
        ["+", "hat"],
        ["=", "sat"],
        ["-", "down"],
    ]


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["barkery", "report", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_command_on_running_empty_and_damaged_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = make_output(tmp_path / "running", committed=2)
    assert command(monkeypatch, str(running), "-o", str(tmp_path / "r.html"), "--clips", "5") == 0
    assert "r.html: 5 clips and 1 failed rows, " in capsys.readouterr().out
    assert '<th scope="row">to go</th><td>24</td>' in (tmp_path / "r.html").read_text()
    empty = make_output(tmp_path / "empty", committed=0)
    (tmp_path / "folder").mkdir()
    damaged = make_output(tmp_path / "damaged")
    (damaged / "data/part-00001.parquet").write_bytes(b"PAR1")
    cut = make_output(tmp_path / "cut")
    content = bytearray((cut / "data/part-00001.parquet").read_bytes())
    content[60] ^= 1  # in the sound: the other columns can be read
    (cut / "data/part-00001.parquet").write_bytes(content)
    for folder, message in (
        (empty, "no row is finished"),
        (tmp_path / "folder", "no run"),
        (damaged, "part-00001"),
        (cut, "part-00001"),
    ):
        assert command(monkeypatch, str(folder), "-o", str(tmp_path / "x.html")) == 2
        err = capsys.readouterr().err.strip()
        assert message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "x.html").exists()


def test_output_with_failures_alone_is_reported(tmp_path: Path) -> None:
    output = make_output(tmp_path / "out", committed=2)
    commit = json.loads((output / "_commits/part-00001.json").read_text())
    (output / "_commits/part-00000.json").unlink()
    failed = pq.read_table(output / "failures/part-00001.parquet")
    (output / "_commits/part-00001.json").write_text(
        json.dumps(commit | {"written": 0, "num_samples": 0, "data": None})
    )
    made = make_report(Store(str(output)), clips=5)
    assert (made.clips, made.failed) == (0, len(failed))


@pytest.fixture
def browser_page(page_file: Path) -> Iterator[Any]:
    """The report in Chromium; fails at the end if the page logged an error or asked the network for anything."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    problems: list[str] = []
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page()
        page.on(
            "console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("data:", "file:")) else problems.append(request.url),
        )
        page.goto(page_file.as_uri())
        yield page
        browser.close()
    assert not problems


@pytest.mark.slow
def test_browser_plays_filters_and_marks(browser_page: Any) -> None:
    page = browser_page
    assert page.locator("article").count() == 31
    page.keyboard.press("j")
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('.selected audio').currentTime > 0.05")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("k")
    assert page.locator(".marked").count() == 2 and page.locator(".selected.marked").count() == 1
    ids = [page.locator(".marked .id").nth(i).inner_text() for i in range(2)]
    page.keyboard.press("/")
    page.keyboard.type("Sentence number 2")
    assert 0 < page.locator("article").count() < 12 and "of 31 shown" in page.locator("#count").inner_text()
    page.keyboard.press("x")  # in the search field it is a letter
    assert page.locator("article").count() == 0
    page.fill("#search", "")
    page.select_option("#reason", "failed")
    assert page.locator("article").count() == 1
    page.wait_for_function("() => document.querySelector('article').innerText.includes('no words')")  # once it is drawn
    page.select_option("#reason", "")
    page.select_option("#sort", "-duration")
    durations = [
        float(text.split()[0])
        for text in page.locator("article .head small").all_text_contents()
        if "failed" not in text
    ]
    assert durations == sorted(durations, reverse=True) and len(durations) == 30
    page.select_option("#show", "marked")
    assert page.locator("article").count() == 2
    page.click("#export")
    assert sorted(page.input_value("#ids").split("\n")[:-1]) == sorted(ids)
    assert page.get_attribute("#download", "href").startswith("data:text/plain")
    page.keyboard.press("Escape")
    page.reload()
    assert page.locator("#marks").inner_text() == "2"  # remembered


def luminance(color: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


CONTRAST = """
() => [...document.querySelectorAll('th, td, p, small, button, select, input, .tag, .id, h1, h2, caption, kbd, summary')].map(e => {
  let back = e; while (back && getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
  return [getComputedStyle(e).color, back ? getComputedStyle(back).backgroundColor : getComputedStyle(document.body).backgroundColor, e.tagName];
})
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_shows_enough_contrast_and_fits_a_phone(browser_page: Any, scheme: str) -> None:
    """WCAG 2.2 AA: text has a contrast of 4.5 at least; all controls have a name; no sideways scrolling."""
    page = browser_page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    page.keyboard.press("j")
    page.keyboard.press("x")
    for text, back, tag in page.evaluate(CONTRAST):
        high, low = sorted((luminance(text), luminance(back)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (tag, text, back)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    unnamed = "[...document.querySelectorAll('button, input, select, audio, img, textarea')].filter(e => !(e.labels?.length || e.ariaLabel || e.alt || e.textContent.trim())).length"
    assert page.evaluate(unnamed) == 0
