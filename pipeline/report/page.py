"""`barkery report`: one HTML file with the numbers of a run and clips to listen to, without network or server."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from pipeline import __version__
from pipeline.dataset.card import hours
from pipeline.errors import ConfigError, redact
from pipeline.flow.progress import duration
from pipeline.flow.tasks import run_tasks
from pipeline.report.clips import ReportClip, render_clips
from pipeline.report.measures import MEASURES, Measure, quantile
from pipeline.report.scan import ALL, Group, Scan, choose, scan_parts
from pipeline.report.summary import Summary, summarize
from pipeline.shards.estimate import Estimate, read_estimate
from pipeline.storage.store import Store

PARTS_PER_TASK = 64
MANY_ROWS = 200_000  # from here on the scan runs in Ray tasks; a smaller one takes less time than to start Ray
FAILED_SHARE = 10  # one in so many clips of the page may be a failed row


@dataclass(frozen=True)
class Report:
    """A finished page."""

    html: bytes
    clips: int
    failed: int  # rows without a sound


def make_report(store: Store, clips: int, address: str | None = None) -> Report:
    """The page of an output, also of one whose run is going on.

    Args:
        clips: at most so many clips.

    Raises:
        ConfigError: the folder has no run, no row is finished, or something in it is damaged.
    """
    summary = summarize(store, max(1, clips // FAILED_SHARE))
    if not (summary.counts.written or summary.counts.failed):
        raise ConfigError(f"{redact(store.url)}: no row is finished yet, so there is nothing to report")
    scan = scan_output(store, summary, clips, address)
    parts = {commit.shard: commit for commit in summary.commits}
    rendered = list(render_clips(store, parts, choose(scan, clips)))
    html = page(store, summary, scan, rendered)
    return Report(html, len(rendered), len(summary.failed_rows))


def scan_output(store: Store, summary: Summary, clips: int, address: str | None) -> Scan:
    written = [commit for commit in summary.commits if commit.data]
    chunks = [written[i : i + PARTS_PER_TASK] for i in range(0, len(written), PARTS_PER_TASK)]
    per_reason = max(1, clips)
    total = Scan(per_reason)
    on_ray = summary.counts.written > MANY_ROWS
    for scan in run_tasks(partial(scan_parts, store, per_reason), chunks, address=address, on_ray=on_ray):
        total.add(scan)
    return total


def page(store: Store, summary: Summary, scan: Scan, clips: Sequence[ReportClip]) -> bytes:
    """Fill the template. Everything from data is escaped: text as HTML, values for the script as JSON."""
    name = redact(store.url).rstrip("/").rsplit("/", 1)[-1]
    failed = [failed_values(row) for row in summary.failed_rows]
    values = {
        "output": name,
        "clips": [clip.values for clip in clips] + failed,
        "measures": {measure.name: measure.label for measure in MEASURES},
    }
    parts = {
        "TITLE": escape(name),
        "SUMMARY": summary_html(store, summary, scan),
        "HISTOGRAMS": histograms_html(scan),
        "DATA": for_script(values),
        "MEDIA": "".join(media_html(number, clip) for number, clip in enumerate(clips)),
        "MADE": f"Made by Barkery {__version__}.",
    }
    text = files("pipeline.report").joinpath("template.html").read_text(encoding="utf-8")
    pieces = text.split("@@")  # text and placeholders in turn
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces)).encode()


def for_script(values: Any) -> str:
    """JSON that can't end the script element in which it stands."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def media_html(number: int, clip: ReportClip) -> str:
    """A clip's sound and picture, which the browser does not read until they are needed."""
    return (
        f'<script type="text/plain" id="sound{number}">{clip.sound}</script>\n'
        f'<script type="text/plain" id="picture{number}">{clip.picture}</script>\n'
    )


def failed_values(row: dict[str, Any]) -> dict[str, Any]:
    """A failed row for the page's list."""
    reason = {key: str(row[key]) for key in ("stage", "error_type", "error_message", "generation")}
    shown = {"id": row["id"], "text": row["text"] or "", "voice": row["voice"] or "", "language": ""}
    return shown | {"seed": str(row["seed"]), "failed": True, "reasons": ["failed"], "columns": reason, "measures": {}}


def summary_html(store: Store, summary: Summary, scan: Scan) -> str:
    """Tables of facts, failures and settings."""
    counts, plan = summary.counts, summary.plans[0]
    facts: list[tuple[str, object]] = [
        ("rows", f"{counts.num_rows:,}"),
        ("written", f"{counts.written:,}"),
        ("failed", f"{counts.failed:,}"),
        ("to go", f"{counts.to_go:,}"),
        ("audio", hours(summary.audio_s)),
        ("model", f"{plan.identity.get('model')} ({str(plan.identity.get('model_revision'))[:19]})"),
        ("generations", f"{len(summary.plans):,}"),
    ]
    if summary.begun and summary.last:
        facts += [
            ("begun", f"{summary.begun:%Y-%m-%d %H:%M} UTC"),
            ("last commit", f"{summary.last:%Y-%m-%d %H:%M} UTC"),
        ]
    if summary.speed and summary.worked_s:
        facts += [("worked", duration(summary.worked_s)), ("speed", f"{summary.speed:,.2f}x real time")]
    again = sum(count for attempts, count in scan.attempts.items() if attempts > 1)
    if scan.attempts:
        facts += [
            ("attempts", f"{sum(n * count for n, count in scan.attempts.items()):,} for {counts.written:,} clips")
        ]
        facts += [("spoken more than once", f"{again:,}")]
    facts += [(f"verdict {name}", f"{count:,}") for name, count in scan.verdicts.most_common()]
    facts += [(f"stopped by {name}", f"{count:,}") for name, count in scan.stops.most_common()]
    planned = planned_and_now(read_estimate(store), summary)
    settings = yaml.safe_dump(plan.config or plan.identity, sort_keys=False, allow_unicode=True)
    failures = [(kind, f"{count:,}") for kind, count in summary.failures.most_common()]
    return (
        f"{table_html('Run', facts)}{table_html('Planned, and now', planned) if planned else ''}"
        f"{table_html('Failures by kind', failures) if failures else ''}"
        f"<details><summary>Settings</summary><pre>{escape(settings)}</pre></details>"
    )


def planned_and_now(estimate: Estimate | None, summary: Summary) -> list[tuple[str, object]]:
    """What `barkery plan` expected beside what is there; empty if the run was not planned with it."""
    if estimate is None:
        return []
    worked_s, price = summary.worked_s or 0.0, estimate.price_per_hour
    rows: list[tuple[str, object]] = [
        ("rows", f"{estimate.rows:,}; {summary.counts.written + summary.counts.failed:,} done"),
        ("failed", f"{estimate.failing_rows:,}; {summary.counts.failed:,}"),
        ("audio", f"{hours(estimate.audio_s)}; {hours(summary.audio_s)}"),
    ]
    if estimate.work_s:
        rows.append(("work", f"{duration(estimate.work_s)}; {duration(worked_s)}"))
    if estimate.cost is not None and price is not None:
        rows.append(("cost", f"{estimate.cost:,.2f}; {worked_s / 3600 * price:,.2f}"))
    return rows


def table_html(caption: str, rows: Iterable[tuple[str, object]]) -> str:
    lines = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(str(v))}</td></tr>' for k, v in rows)
    return f"<table><caption>{escape(caption)}</caption>{lines}</table>"


def histograms_html(scan: Scan) -> str:
    """A table of histograms: a line for all clips, for each language and for each voice; a column for each measure."""
    measures = [m for m in MEASURES if m.in_summary and scan.groups.get(ALL) and scan.groups[ALL][m.name].any()]
    if not measures:
        return ""
    heads = "".join(f'<th scope="col">{escape(measure.label)}</th>' for measure in measures)
    lines = []
    for group in [ALL, *scan.largest("language"), *scan.largest("voice")]:
        if group in scan.groups:
            cells = "".join(f"<td>{histogram(m, scan.groups[group][m.name])}</td>" for m in measures)
            lines.append(f'<tr><th scope="row">{group_html(group, scan)}</th>{cells}</tr>')
    head = f'<thead><tr><th scope="col">clips</th>{heads}</tr></thead>'
    return f'<div class="wide" tabindex="0" role="region" aria-label="Histograms"><table class="histograms">{head}<tbody>{"".join(lines)}</tbody></table></div>'  # noqa: E501


def group_html(group: Group, scan: Scan) -> str:
    kind, name = group
    return f"{escape(kind)} <b>{escape(name)}</b><br>{scan.sizes[group]:,} clips"


def histogram(measure: Measure, counts: np.ndarray) -> str:
    """Bars as an SVG, with the median and the range of 90 % as text."""
    if not counts.any():
        return "–"
    low, middle, high = (quantile(counts, measure.edges, share) for share in (0.05, 0.5, 0.95))
    heights = np.rint(30 * counts / counts.max()).astype(int)
    heights[(counts > 0) & (heights == 0)] = 1
    path = "".join(f"M{4 * i} 32v-{h}h3v{h}z" for i, h in enumerate(heights.tolist()) if h)
    label = f"{measure.label}: median {middle:.3g}, 90 % between {low:.3g} and {high:.3g}"
    width = 4 * measure.bins
    return (
        f'<svg viewBox="0 0 {width} 33" width="{width}" height="33" role="img" aria-label="{escape(label)}">'
        f'<path d="{path}M0 32h{width}v1h-{width}z"/></svg><small>{middle:.3g} ({low:.3g} to {high:.3g})</small>'
    )


def write_report(target: str, html: bytes, storage_options: dict[str, Any]) -> None:
    """Write the page to a path or a URL, whole or not at all."""
    folder, _, name = (target if "://" in target else os.path.abspath(target)).rpartition("/")  # noqa: PTH100
    Store(folder, storage_options).put(name, html)
