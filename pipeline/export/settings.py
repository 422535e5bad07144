"""What an export makes: its format, which rows, how they are split, and how the sound is stored."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.dataset.condition import Condition
from pipeline.errors import ConfigError

CODECS = ("flac", "wav", "mp3", "opus")
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
RATES = (4_000, 192_000)  # lowest and highest
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
WHOLE = {"train": 1.0}  # no split: everything is for training


@dataclass(frozen=True)
class ExportSettings:
    """All that decides the bytes of an export, besides the rows of the output."""

    format: str
    where: str | None = None  # a condition on columns; None takes all rows
    splits: tuple[tuple[str, float], ...] = tuple(WHOLE.items())  # name and share; the shares add up to 1
    split_by: str = "id"  # rows with the same value of this column are in the same split
    sample_rate: int | None = None  # Hz; None keeps each clip's own
    codec: str | None = None  # None is the format's default, which for most is to keep each clip as it is

    @property
    def condition(self) -> Condition | None:
        return None if self.where is None else Condition(self.where)

    @property
    def split_names(self) -> list[str]:
        return [name for name, _ in self.splits]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the export's plan."""
        return asdict(self) | {"splits": dict(self.splits)}

    def check(self) -> None:
        """Raise ConfigError for values that no format can have."""
        if self.codec is not None and self.codec not in CODECS:
            raise ConfigError(f"--codec: unknown codec {self.codec!r}: use {', '.join(CODECS)}")
        rate = self.sample_rate
        if rate is not None and not RATES[0] <= rate <= RATES[1]:
            raise ConfigError(f"--sample-rate: must be from {RATES[0]:,} to {RATES[1]:,} Hz, is {rate:,}")
        for codec, rates in (("opus", OPUS_RATES), ("mp3", MP3_RATES)):
            if self.codec == codec and rate is not None and rate not in rates:
                raise ConfigError(f"--sample-rate: {codec} has no {rate:,} Hz: use one of {', '.join(map(str, rates))}")


def parse_splits(text: str | None) -> tuple[tuple[str, float], ...]:
    """`train=0.98,test=0.02` -> (("train", 0.98), ("test", 0.02)). Shares that add up to 100 are percentages.

    Raises:
        ConfigError: not of this form, or the shares do not add up to 1.
    """
    if text is None:
        return tuple(WHOLE.items())
    splits: dict[str, float] = {}
    for each in text.split(","):
        name, sign, value = (part.strip() for part in each.partition("="))
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if not sign or not name.isidentifier() or not name.isascii() or not share > 0:
            raise ConfigError(f"--split: {each.strip()!r} must be NAME=SHARE, as in train=0.98,test=0.02")
        if name in splits:
            raise ConfigError(f"--split: {name} is there twice")
        splits[name] = share
    total = math.fsum(splits.values())
    if math.isclose(total, 100):
        splits = {name: share / 100 for name, share in splits.items()}
    elif not math.isclose(total, 1, abs_tol=1e-6):
        raise ConfigError(f"--split: the shares must add up to 1, they add up to {total:g}")
    return tuple(splits.items())
