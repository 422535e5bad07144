"""The software and hardware that made a shard, recorded once in the output and named by every commit.

    _plan/environments/ID.json   package versions, processor, instruction sets, GPU, own or reference kernels;
                                 ID is a hash of the content

Results in two environments may differ in the low bits of samples and so, rarely, in a token. A run may go on in another
environment; the record shows afterwards which shards were made where.
"""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline import __version__
from pipeline.errors import one_line
from pipeline.kernels.processor import instruction_sets, processor_name
from pipeline.kernels.reference import use_reference
from pipeline.shards.writer import Commit
from pipeline.storage.store import Store

FOLDER = "_plan/environments"
PACKAGES = ("torch", "numba", "numpy", "ray")  # besides barkery and Python
Environment = dict[str, Any]


def current_environment(gpu: str | None = None) -> Environment:
    """This process's environment; `gpu` is the name of the GPU it computes on."""
    return {
        "barkery": __version__,
        "python": platform.python_version(),
        **{name: installed_version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "instruction_sets": instruction_sets(),
        "gpu": gpu,
        "kernels": "reference" if use_reference() else "own",
    }


def installed_version(package: str) -> str | None:
    """An installed package's version, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment_id(environment: Environment) -> str:
    """A short hash of the content: equal environments have equal ids on every machine."""
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:12]


def save_environment(store: Store, environment: Environment) -> str:
    """Write an environment's record if the output does not have it yet; return its id."""
    name = environment_id(environment)
    store.create(f"{FOLDER}/{name}.json", json.dumps(environment, indent=1).encode())
    return name


def environment_ids(store: Store) -> set[str]:
    """Ids of all environments that the output has a record of."""
    return {name.removesuffix(".json") for name in store.names(FOLDER)}


def read_environment(store: Store, name: str) -> Environment:
    """One record; where it is missing or damaged, a dict that says so: it is information, and no run needs it."""
    try:
        environment = json.loads(store.get(f"{FOLDER}/{name}.json"))
        if not isinstance(environment, dict) or environment_id(environment) != name:
            raise ValueError("its content was changed")
    except (FileNotFoundError, ValueError) as error:
        return {"record": f"unreadable ({one_line(error)})"}
    return environment


def differences(store: Store, names: Iterable[str]) -> dict[str, str]:
    """For each id, the values in which these environments differ from each other, as text; a single one in short.

    Of instruction sets, only those that not all of the environments have.
    """
    found = {name: read_environment(store, name) for name in sorted(names)}
    keys = list(dict.fromkeys(key for environment in found.values() for key in environment))
    different = [key for key in keys if len({json.dumps(e.get(key)) for e in found.values()}) > 1]
    if len(found) == 1:
        different = [key for key in ("barkery", "torch", "processor", "record") if key in keys]
    common = set.intersection(*(set(e.get("instruction_sets") or ()) for e in found.values())) if found else set()

    def shown(key: str, value: Any) -> str:
        if key == "instruction_sets":
            return " ".join(each for each in value or () if each not in common) or "only the common ones"
        return str(value)

    return {name: ", ".join(f"{key} {shown(key, e.get(key))}" for key in different) for name, e in found.items()}


def resume_warning(store: Store, before: Collection[str], now: Iterable[str]) -> str | None:
    """One line for a resume whose shards are made in an environment that made none before; None where all are known.

    `before`: ids in the output when the resume began; empty where an older release, which recorded none, began it.
    """
    new = set(now) - set(before)
    if not new:
        return None
    effect = "shards made now may differ in low bits from those made before"
    if not before:
        return f"the shards made before name no environment (an older barkery made them): {effect} if it was another"
    texts = differences(store, {*before, *new})
    then, here = (" or ".join(f"({texts[name]})" for name in sorted(names)) for names in (before, new))
    return f"this output was begun in another environment {then}, now it is {here}: {effect}"


class EnvironmentWatch:
    """Compares the environments of new shards with those in an output when a run begins, and warns once."""

    def __init__(self, store: Store):
        self.store = store
        self.before = environment_ids(store)
        self.is_resume = bool(store.names("_commits"))
        self.warned = False

    def warning(self, environments: Mapping[str, str]) -> str | None:
        """The warning for the first shard of a resume that ran in a new environment; None for all others."""
        if not self.is_resume or self.warned:
            return None
        text = resume_warning(self.store, self.before, environments.values())
        self.warned = text is not None
        return text


def environment_notes(store: Store, commits: Collection[Commit]) -> list[str]:
    """Lines for `verify` where a stage's shards were made in different environments; empty where all were made alike.

    A mix is no damage: every shard is complete, and only low bits may depend on where it was made.
    """
    stages = list(dict.fromkeys(stage for commit in commits for stage in commit.environments))
    by_stage = {stage: Counter(commit.environments.get(stage) for commit in commits) for stage in stages}
    mixed = {stage: counts for stage, counts in by_stage.items() if len(counts) > 1}
    if not mixed:
        return []
    texts = differences(store, {name for counts in mixed.values() for name in counts if name})
    lines = ["shards were made in different environments, so their low bits may differ:"]
    for counts in dict.fromkeys(tuple(sorted(counts.items(), key=str)) for counts in mixed.values()):
        these = [stage for stage, each in mixed.items() if tuple(sorted(each.items(), key=str)) == counts]
        for name, count in counts:
            text = f"{name} ({texts[name]})" if name else "not recorded (made by an older barkery)"
            lines.append(f"  {', '.join(these)}: {count:,} shard{'s' if count > 1 else ''} in {text}")
    return lines
