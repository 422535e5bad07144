"""Checks that all pools can run at once. Ray does not: pools that don't fit take turns, and the job is very slow."""

import math
from dataclasses import dataclass
from typing import Any

from pipeline.config import RunConfig
from pipeline.errors import ConfigError

TOLERANCE = 1e-9  # sums of fractions such as 0.1 are inexact


@dataclass
class Node:
    """Free resources of one node while actors are placed."""

    cpus: float
    gpus: float


def check(config: RunConfig, nodes: list[dict[str, float]]) -> None:
    """Try to place the minimum of every pool's actors on the nodes (`{"CPU": n, "GPU": n}` each).

    Raises:
        ConfigError: they don't fit. Names the pool, and fractions that would fit.
    """
    nodes_left = [Node(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes]
    actors = [
        (name, pool.num_gpus, pool.num_cpus)
        for name, pool in config.active_pools.items()
        for _ in range(pool.min_actors)
    ]
    for name, gpus, cpus in sorted(actors, key=lambda a: (a[1], a[2]), reverse=True):  # the largest first
        if gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"pools.{name}.num_gpus: above 1 it must be a whole number, is {gpus:g}")
        fitting = [n for n in nodes_left if n.gpus + TOLERANCE >= gpus and n.cpus + TOLERANCE >= cpus]
        if not fitting:
            raise ConfigError(refusal(config, nodes, name))
        best = min(fitting, key=lambda n: (n.gpus, n.cpus))  # the fullest one that it fits on
        best.gpus -= gpus
        best.cpus -= cpus


def refusal(config: RunConfig, nodes: list[dict[str, float]], name: str) -> str:
    """The error message: requested and available resources, and what would fit."""
    pools = list(config.active_pools.values())
    available = {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in ("GPU", "CPU")}
    requested = {
        "GPU": sum(p.min_actors * p.num_gpus for p in pools),
        "CPU": sum(p.min_actors * p.num_cpus for p in pools),
    }
    short = "GPU" if requested["GPU"] > available["GPU"] + TOLERANCE else "CPU"
    key = f"num_{short.lower()}s"
    sharing = sum(p.min_actors for p in pools if getattr(p, key))
    text = (
        f"pools.{name} does not fit beside the others: all pools must run at once, and they ask for "
        f"{requested['GPU']:g} GPUs and {requested['CPU']:g} CPUs of {available['GPU']:g} GPUs and "
        f"{available['CPU']:g} CPUs on {len(nodes)} node{'s' if len(nodes) > 1 else ''}"
    )
    if not available[short]:
        return f"{text}; there is no {short}: set {key}: 0 and device: cpu, or connect to another cluster"
    share = math.floor(100 * available[short] / sharing) / 100
    return f"{text}; {key}: {share:g} for each of the {sharing} actors would fit (set cluster_can_grow to skip this)"


def alive_nodes(nodes: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Resources of the living nodes from `ray.nodes()`."""
    return [node["Resources"] for node in nodes if node["Alive"]]
