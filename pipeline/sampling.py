"""How tokens are sampled: settings of a run, of a row or of a call. `schema.py` derives columns from them."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.errors import ConfigError
from pipeline.spec import COARSE_WINDOW, MAX_COARSE_HISTORY, MAX_SEMANTIC_TOKENS, NUM_COARSE_CODEBOOKS

MAX_SEED = 2**63 - 1  # a seed is an int64 column


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled; the defaults are those of Suno's `generate_audio`. Temperature 0 is argmax.

    Raises:
        ConfigError: a value out of its range, naming it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}  # in a config, an unknown key is an error

    semantic_temperature: float = 0.7
    coarse_temperature: float = 0.7
    fine_temperature: float = 0.5
    top_k: int | None = None  # semantic and coarse: only the k likeliest tokens
    top_p: float | None = None  # semantic and coarse: the likeliest tokens up to this probability, before temperature
    min_eos_p: float | None = 0.2  # the semantic stage ends when P(EOS) reaches this
    allow_early_stop: bool = True  # False: always max_semantic_tokens
    max_semantic_tokens: int = MAX_SEMANTIC_TOKENS
    # Coarse tokens generated per window (Bark: 60) and read by it as history (Bark: 630). Each sliding window costs one
    # prefill, so wider windows and shorter histories are faster, but they differ from Bark as published.
    coarse_window: int = COARSE_WINDOW
    coarse_history: int = MAX_COARSE_HISTORY

    def __post_init__(self) -> None:
        for name in ("semantic_temperature", "coarse_temperature", "fine_temperature"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(f"{name} must be from 0 (argmax) to 100, is {getattr(self, name)}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, is {self.top_k}")
        for name in ("top_p", "min_eos_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ConfigError(f"{name} must be above 0 and at most 1, is {value}")
        if not 1 <= self.max_semantic_tokens <= MAX_SEMANTIC_TOKENS:
            raise ConfigError(f"max_semantic_tokens must be 1 to {MAX_SEMANTIC_TOKENS}, is {self.max_semantic_tokens}")
        for name in ("coarse_window", "coarse_history"):
            if getattr(self, name) < COARSE_WINDOW or getattr(self, name) % NUM_COARSE_CODEBOOKS:
                raise ConfigError(f"{name} must be even and at least {COARSE_WINDOW}, is {getattr(self, name)}")
        if self.coarse_window + self.coarse_history > COARSE_WINDOW + MAX_COARSE_HISTORY:
            most = COARSE_WINDOW + MAX_COARSE_HISTORY
            raise ConfigError(
                f"coarse_window and coarse_history must add up to at most {most}, the positions of the coarse model"
            )

    @classmethod
    def greedy(cls, **changes: Any) -> "Sampling":
        """Argmax in every stage; ends when EOS is the likeliest token, as in Suno's code with top_k=1."""
        zero = dict.fromkeys(("semantic_temperature", "coarse_temperature", "fine_temperature"), 0.0)
        return cls(**(zero | changes))

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))
