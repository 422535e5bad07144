"""The output's README: a dataset card that tells `load_dataset` which files are data, and describes them to people."""

from typing import Any

import yaml


def card(identity: dict[str, Any], model: dict[str, str], num_rows: int) -> bytes:
    """README.md of an output folder. It depends on the plan alone, so every run writes the same text."""
    head = {
        "tags": ["synthetic", "speech", "text-to-speech"],
        "task_categories": ["text-to-speech"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]},
            {"config_name": "failures", "data_files": [{"split": "train", "path": "failures/*.parquet"}]},
        ],
    }
    settings = yaml.safe_dump(identity, sort_keys=True, allow_unicode=True)
    return f"""---
{yaml.safe_dump(head, sort_keys=False)}---

# Synthetic speech

Machine-generated speech: {num_rows:,} texts through `{model["model"]}` (revision {model["model_revision"]}), made with
{model["generator"]}.
Each row of `data/` is one utterance with its text, voice, seed and settings; `failures/` has the rows that failed, with
reasons. `_commits/` lists the parts that are complete; while a run is in progress, ignore the others.

```python
from datasets import Audio, load_dataset

speech = load_dataset("THIS_FOLDER", split="train")
speech = speech.cast_column("audio", Audio(decode=False))  # bytes of a sound file, for soundfile.read
```

Settings:

```yaml
{settings}```
""".encode()
