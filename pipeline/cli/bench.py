"""`barkery bench`: the speed of each stage on this machine."""

from typing import Annotated

import typer

from pipeline.cli.options import Device


def bench(
    model: Annotated[str | None, typer.Argument(help="Folder or hub id. (default: random weights)")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Number of rows.")] = 8,
    min_s: Annotated[float, typer.Option(min=0.1, max=15.3, help="Seconds of the shortest row.")] = 2.0,
    max_s: Annotated[float, typer.Option(min=0.1, max=15.3, help="Seconds of the longest row.")] = 8.0,
    voice: Annotated[str | None, typer.Option(help="A preset, or path of an .npz file.")] = None,
    slots: Annotated[int | None, typer.Option(help="Rows that are decoded side by side. (default: 8, CUDA 32)")] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    quantize: Annotated[str | None, typer.Option(help="int8: faster on a CPU, not exact.")] = None,
) -> None:
    """Measure each stage, as a share of what this machine can do at most. The last line is JSON."""
    import json

    from pipeline.bench.bench import bench as run_bench

    options = {"slots": slots, "device": device, "dtype": dtype, "quantize": quantize}
    print(json.dumps(run_bench(model, rows=rows, min_s=min_s, max_s=max_s, voice=voice, show=print, **options)))
