"""The lock files pin every package, and agree with their sources and with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent


def requirements(name: str) -> dict[str, Requirement]:
    """The requirements of a file by canonical name; options such as `-c FILE` are left out."""
    lines = [line.partition(" #")[0].strip() for line in (PROJECT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    assert found
    return {canonicalize_name(each.name): each for each in found}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-cuda.txt"])
def test_every_package_is_pinned(name: str) -> None:
    for each in requirements(name).values():
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(each.specifier)) and not each.url, each
    options = {line for line in (PROJECT / name).read_text().splitlines() if line.startswith("-")}
    assert options <= {"-c requirements-cuda.txt"}  # no index and no local path


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_lock_has_what_its_source_asks_for(name: str) -> None:
    """`make lock` writes the lock again from the source."""
    locked = requirements(f"{name}.txt")
    for package, source in requirements(f"{name}.in").items():
        assert locked[package].specifier == source.specifier, package


def test_development_lock_extends_the_other() -> None:
    base, dev = requirements("requirements.txt"), requirements("requirements-dev.txt")
    assert {name: str(dev[name].specifier) for name in base} == {n: str(r.specifier) for n, r in base.items()}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_dependencies_of_the_package_are_locked(name: str, python: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + (project["optional-dependencies"]["dev"] if "dev" in name else [])
    locked = requirements(name)
    linux = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    for each in map(Requirement, wanted):
        lock = locked[canonicalize_name(each.name)]
        assert lock.marker is None or lock.marker.evaluate(linux), each
        assert each.specifier.contains(next(iter(lock.specifier)).version), each
