"""Compare one process with Ray, one actor per pool on the same cores: `python -m benchmarks.flow`.

Loading is not counted: the time of a run with one short row and the same actors is subtracted. Weights are random in
bark-small's sizes, lengths are forced. The last line is JSON.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.peers import TEXT, small_checkpoint
from pipeline import Bark, Sampling
from pipeline.bark.registry import STAGES
from pipeline.config import parse
from pipeline.flow.driver import run
from pipeline.spec import SEMANTIC_RATE_HZ


def through_ray(folder: Path, model: Path, lengths: list[int], arguments: argparse.Namespace) -> float:
    """Seconds of a whole run, without starting Ray."""
    folder.mkdir(parents=True)
    count = len(lengths)
    columns: dict[str, Any] = {"id": [str(i) for i in range(count)], "text": [TEXT] * count}
    columns |= {"max_semantic_tokens": lengths, "allow_early_stop": [False] * count}
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    pool = {"num_cpus": 0.25, "threads": arguments.threads, "slots": arguments.slots}
    values = {
        "model": str(model),
        "manifest": str(folder / "rows.parquet"),
        "output": str(folder / "out"),
        "segments": {"max_tokens": 200},  # one character each
        "rows_per_shard": arguments.rows_per_shard,
        "pools": dict.fromkeys(STAGES, pool),
    }
    start = time.perf_counter()
    run(parse(values, "benchmark"))
    return time.perf_counter() - start


def in_process(bark: Bark, lengths: list[int]) -> float:
    sampling = [Sampling(max_semantic_tokens=n, allow_early_stop=False) for n in lengths]
    start = time.perf_counter()
    bark.generate([TEXT] * len(lengths), seeds=range(len(lengths)), sampling=sampling)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("out/bench-small"), help="created if it is missing")
    parser.add_argument("--out", type=Path, default=Path("out/bench-flow"))
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rows-per-shard", type=int, default=2)
    parser.add_argument("--min-s", type=float, default=1.0)
    parser.add_argument("--max-s", type=float, default=4.0)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = small_checkpoint(arguments.model)
    seconds = np.linspace(arguments.max_s, arguments.min_s, arguments.rows)
    lengths = [round(s * SEMANTIC_RATE_HZ) for s in seconds]
    out = arguments.out / time.strftime("%Y%m%d-%H%M%S")
    load_s = through_ray(out / "short", model, [10], arguments)
    ray_s = through_ray(out / "rows", model, lengths, arguments)
    bark = Bark.load(model, device="cpu", slots=arguments.slots)
    short_s, here_s = in_process(bark, [10]), in_process(bark, lengths)
    share = here_s / (ray_s - load_s + short_s)
    print(
        f"one process {here_s:.1f} s; through Ray {ray_s:.1f} s, including {load_s:.1f} s for loading and one short row"
    )
    print(
        json.dumps(
            {
                "rows": arguments.rows,
                "in_process_s": round(here_s, 1),
                "ray_s": round(ray_s, 1),
                "load_s": round(load_s, 1),
                "ray_speed_over_in_process": round(share, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
