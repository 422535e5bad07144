"""All actors on one kind of processor compute in one layout: the first one's measurement, kept with the run.

Another layout may change a number's low bits and so, rarely, a drawn token: a retry or a resume must not measure
anew and come to another result.
"""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import torch

from pipeline.bark.build import Placement
from pipeline.model.linear import Layout
from pipeline.shards.storage import Store


def agree(store: Store, at: Placement) -> Placement:
    """This placement, with the layout that the run has for this kind of processor; the first to ask decides it."""
    if at.device.type != "cpu":
        return at
    name = f"_plan/layouts/{kind(at)}.json"
    if store.create(name, json.dumps(asdict(at.layout)).encode()):
        return at
    return replace(at, layout=Layout(**json.loads(store.get(name))))


def kind(at: Placement) -> str:
    """What decides low bits besides the layout: the processor, what torch uses of it, threads, slots."""
    parts = (processor(), torch.backends.cpu.get_cpu_capability(), str(at.dtype).removeprefix("torch."))
    text = " ".join((*parts, f"{torch.get_num_threads()} threads", f"{at.slots} slots"))
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def processor() -> str:
    """The CPU's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")
