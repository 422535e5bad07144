"""cluster.yaml passes Ray's validation, and every config in configs/ loads."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from pipeline.audiobook.config import load_audiobook_config
from pipeline.config import load_config

PROJECT = Path(__file__).parent.parent


def test_cluster_yaml_is_valid() -> None:
    validate_config(prepare_config(yaml.safe_load((PROJECT / "cluster.yaml").read_text())))


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_configs_load(path: Path) -> None:
    """Each by the command that it is for."""
    load_audiobook_config(path) if path.name == "audiobook.yaml" else load_config(path)
