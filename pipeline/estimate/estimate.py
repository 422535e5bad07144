"""`barkery plan`: what a run will be, before anything is spent."""

import os
from dataclasses import dataclass

import numpy as np

from pipeline.config import RunConfig
from pipeline.dataset.card import hours
from pipeline.estimate.look import SHOWN, Look, look
from pipeline.estimate.probe import Probe, choose_rows, context_of, speak
from pipeline.export.plan import BYTES_PER_S
from pipeline.flow.planning import ModelInfo, absolute, pick_rows_per_shard
from pipeline.flow.progress import duration
from pipeline.manifest.manifest import Manifest
from pipeline.manifest.sample import sample_manifest
from pipeline.shards.estimate import Estimate, save_estimate
from pipeline.storage.store import Store

# Without a probe: seconds of speech for a character, and the range in which nine of ten models and voices are. Measured
# on Bark's presets and on puppy, 13 to 20 characters a second (docs/datasets.md).
SECONDS_PER_CHARACTER = 1 / 15.5
UNCERTAINTY = (0.75, 1.35)
RESAMPLES = 400
RANGE = (5, 95)  # percent


@dataclass(frozen=True)
class PlannedRun:
    """An estimate, and what was seen on the way."""

    estimate: Estimate
    look: Look
    probe: Probe | None

    def lines(self) -> list[str]:
        """For people."""
        e, sample = self.estimate, self.look.sample
        about = "" if sample.is_whole else f" (projected from {e.sampled_rows:,} rows)"
        exact = "" if sample.is_exact else "about "
        found = [
            f"rows        {exact}{e.rows:,}, {e.characters:,} characters{about}",
            f"long texts  {e.split_rows:,} rows are split into segments",
            f"will fail   {e.failing_rows:,} rows" + (f": {kinds(e.failures)}" if e.failures else ""),
        ]
        for what, counts in (("voices", self.look.unknown_voices), ("languages", self.look.unknown_languages)):
            if counts:
                named = ", ".join(name for name, _ in counts.most_common(SHOWN))
                rows = self.look.project(sum(counts.values()))
                found.append(f"unknown     {what}: {named}{', ...' if len(counts) > SHOWN else ''} ({rows:,} rows)")
        found.append(f"audio       {hours(e.audio_s)}, probably {hours(e.audio_low_s)} to {hours(e.audio_high_s)}")
        found.append(f"bytes       {', '.join(f'{name} {size(e.audio_s * b)}' for name, b in BYTES_PER_S.items())}")
        found.append(f"shards      {e.shards:,}")
        if e.work_s is None:
            found.append("work        unknown: --probe 20 speaks twenty rows and measures")
            return found
        found.append(f"probe       {e.probed_rows:,} rows spoken, {hours(self.probe.audio_s if self.probe else 0)}")
        found.append(f"work        {duration(e.work_s)}, {e.audio_s / max(1e-9, e.work_s):.2f}x real time")
        if e.gpu_s:
            found.append(f"GPU time    {e.gpu_s / 3600:,.2f} h")
        if e.rejected_rows is not None:
            found.append(f"rejects     {e.rejected_rows:,} rows, which are spoken again where the config says so")
        if e.cost is not None:
            found.append(f"cost        {e.cost:,.2f}, at {e.price_per_hour:,.2f} an hour")
        return found


def kinds(failures: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in failures.items())


def size(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def plan_run(
    config: RunConfig, probe_rows: int = 0, price_per_hour: float | None = None, address: str | None = None
) -> PlannedRun:
    """Estimate a run, and keep the estimate in its output.

    Args:
        probe_rows: speak so many rows to measure; 0 speaks none.
        price_per_hour: of all machines of the run together.
        address: of a Ray cluster on which the probe is spoken; None is this process.

    Raises:
        ConfigError: the config, the manifest or the model can't be used.
    """
    config = absolute(config)
    store = Store(config.output, config.storage_options)
    model = ModelInfo.check(config)
    sample = sample_manifest(Manifest(config.manifest, config.storage_options, config.limit))
    seen = look(context_of(config, model), sample)
    probe = speak(config, model, choose_rows(seen, probe_rows), address) if probe_rows and seen.rows else None
    audio_s, low_s, high_s = expected_audio(seen, probe)
    work_s = expected_work(config, seen, probe, audio_s) if probe else None
    rows_per_shard = config.rows_per_shard or pick_rows_per_shard(sample.num_rows, config)
    estimate = Estimate(
        rows=sample.num_rows,
        characters=seen.project(sum(each.characters for each in seen.rows)),
        split_rows=seen.project(sum(len(each.segments) > 1 for each in seen.rows)),
        failing_rows=seen.project(sum(seen.failures.values())),
        audio_s=audio_s,
        audio_low_s=low_s,
        audio_high_s=high_s,
        shards=-(-sample.num_rows // rows_per_shard),
        sampled_rows=len(sample.rows),
        probed_rows=len(probe.rows) + probe.failed if probe else 0,
        work_s=work_s,
        gpu_s=None if work_s is None else work_s * sum(p.min_actors * p.num_gpus for p in config.active_pools.values()),
        cost=None if work_s is None or price_per_hour is None else work_s / 3600 * price_per_hour,
        rejected_rows=rejected(seen, probe),
        price_per_hour=price_per_hour,
        failures={kind: seen.project(count) for kind, count in seen.failures.most_common()},
    )
    save_estimate(store, estimate)
    return PlannedRun(estimate, seen, probe)


def rejected(seen: Look, probe: Probe | None) -> int | None:
    """Rows of the manifest that fail while they are spoken, or that the gate rejects at the first attempt."""
    if probe is None or not (spoken := len(probe.rows) + probe.failed):
        return None
    return seen.project(len(seen.rows) * (probe.failed + probe.rejected) / spoken)


def expected_audio(seen: Look, probe: Probe | None) -> tuple[float, float, float]:
    """Seconds of audio of the whole manifest: expected, and the range of nine in ten.

    With a probe, seconds follow from segments and characters by least squares on its rows, and the range from drawing
    these rows again and again (bootstrap).
    """
    sizes = np.array([(len(each.segments), each.characters) for each in seen.rows], dtype=np.float64).reshape(-1, 2)
    totals = sizes.sum(axis=0) * seen.factor
    if probe is None or not probe.rows:
        expected = float(totals[1] * SECONDS_PER_CHARACTER)
        return expected, expected * UNCERTAINTY[0], expected * UNCERTAINTY[1]
    x = np.array([(len(each.segments), each.characters) for each in probe.rows], dtype=np.float64)
    y = np.array(probe.durations)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(y), len(y)) for _ in range(RESAMPLES)]
    again = [float(fit(x[draw], y[draw]) @ totals) for draw in draws]
    low, high = np.percentile(again, RANGE)
    return float(fit(x, y) @ totals), float(low), float(high)


def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(2,) seconds for a segment and for a character; where rows are too few or too alike, for a character alone."""
    if len(y) >= 6 and np.ptp(x[:, 1] / x[:, 0]) > 0.5 * np.mean(x[:, 1] / x[:, 0]):
        both: np.ndarray = np.linalg.lstsq(x, y, rcond=None)[0]
        if (both >= 0).all():
            return both
    return np.array([0.0, y.sum() / max(1.0, x[:, 1].sum())])


def expected_work(config: RunConfig, seen: Look, probe: Probe, audio_s: float) -> float | None:
    """Wall seconds of the run: of the slowest pool, or of the machine, if its pools share what it has.

    Without a cluster's address, the machine is this one.
    """
    if not probe.audio_s:
        return None
    scale = audio_s / probe.audio_s
    pools = config.active_pools
    slowest = max(probe.stage_s[name] / pool.min_actors for name, pool in pools.items() if name in probe.stage_s)
    on_cpu = [name for name in probe.stage_s if not pools[name].num_gpus]
    shared = sum(probe.stage_s[name] * threads(config, name) for name in on_cpu) / (os.cpu_count() or 1)
    gpus = sum(pool.min_actors * pool.num_gpus for pool in pools.values())
    on_gpu = sum(probe.stage_s[name] for name in probe.stage_s if pools[name].num_gpus) / max(1.0, gpus)
    return scale * max(slowest, on_gpu, 0.0 if config.cluster_can_grow else shared)


def threads(config: RunConfig, stage: str) -> int:
    pool = config.pools[stage]
    return pool.threads or max(1, int(np.ceil(pool.num_cpus)))
