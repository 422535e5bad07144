"""The settings of a run: one YAML file. Unknown keys are errors; the settings are saved with the output."""

import difflib
import re
import reprlib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from pipeline.bark.defaults import PAUSE_S, resolve_device, resolve_dtype
from pipeline.bark.registry import JUDGE, STAGES, StageSpec, stages_of
from pipeline.bark.stage import is_good_slots
from pipeline.errors import ConfigError, redact
from pipeline.quality.gate import JUDGE_OF
from pipeline.quality.judges.settings import JudgeSettings
from pipeline.quality.settings import QualitySettings
from pipeline.sampling import MAX_SEED, Sampling

SECRET = "storage_options"


class ConfigSection(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Actors(ConfigSection):
    """An autoscaling pool."""

    min: int = Field(1, ge=1)
    max: int = Field(ge=1)


class PoolConfig(ConfigSection):
    """The actors of one stage and their resources."""

    actors: int | Actors = 1  # a fixed number, or {min, max}
    num_gpus: float = Field(0, ge=0)  # per actor; a fraction shares a GPU
    num_cpus: float = Field(1, gt=0)  # per actor
    threads: int | None = Field(None, ge=1)  # per actor; default: num_cpus rounded up. Actors may share cores
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")  # auto: CUDA if num_gpus is above 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 on CUDA, float32 on a CPU
    quantize: Literal["int8"] | None = None  # CPU only: 8-bit weights, faster, but other tokens than the exact model
    slots: int | None = Field(None, ge=1)  # utterances at once (semantic, coarse); default: 8 on a CPU, 32 on CUDA
    shards_in_flight: int = Field(4, ge=1)  # shards whose rows one actor mixes, so that no slot waits for a slow row

    @field_validator("actors")
    @classmethod
    def _at_least_one_actor(cls, value: int | Actors) -> int | Actors:
        low, high = (value, value) if isinstance(value, int) else (value.min, value.max)
        if not 1 <= low <= high:
            raise ValueError("must be at least 1, and max at least min")
        return value

    @model_validator(mode="after")
    def _cuda_needs_num_gpus(self) -> "PoolConfig":
        if self.device.startswith("cuda") and not self.num_gpus:
            raise ValueError("device cuda needs num_gpus above 0, else Ray does not know that the GPU is in use")
        return self

    @field_validator("slots")
    @classmethod
    def _good_slots(cls, value: int | None) -> int | None:
        if value is not None and not is_good_slots(value):
            raise ValueError("must be 1 to 4 or a multiple of 4")
        return value

    @property
    def resolved_device(self) -> str:
        """The device without `auto`: `cpu`, `cuda` or `cuda:N`."""
        return resolve_device(self.device, has_gpu=self.num_gpus > 0)

    @property
    def device_type(self) -> str:
        """`cpu` or `cuda`: which of several GPUs computes does not change the output."""
        return self.resolved_device.partition(":")[0]

    @property
    def resolved_dtype(self) -> str:
        """The dtype without `auto`."""
        return resolve_dtype(self.dtype, self.resolved_device)

    @property
    def min_actors(self) -> int:
        return self.actors if isinstance(self.actors, int) else self.actors.min

    @property
    def max_actors(self) -> int:
        return self.actors if isinstance(self.actors, int) else self.actors.max


class PoolsBase(ConfigSection):
    """One PoolConfig for each stage of the registry and for judges; `config.pools["fine"]` is `config.pools.fine`."""

    def __getitem__(self, stage: str) -> PoolConfig:
        pool: PoolConfig = getattr(self, stage)
        return pool


if TYPE_CHECKING:
    Pools = PoolsBase
else:
    Pools = create_model("Pools", __base__=PoolsBase, **{name: (PoolConfig, PoolConfig()) for name in (*STAGES, JUDGE)})


class Segments(ConfigSection):
    """How a long text is split, and its segments are joined."""

    max_tokens: int | None = Field(None, ge=1, le=256)  # default: the model's own number, else 64
    max_chars: int = Field(190, ge=1)
    pause_s: float = Field(PAUSE_S, ge=0, le=60)


class AudioConfig(ConfigSection):
    format: Literal["flac", "wav", "mp3"] = "flac"


class RunConfig(ConfigSection):
    """All settings of a run; `configs/` has commented examples."""

    model: str  # local folder (either published format) or hub id
    revision: str | None = None  # of a hub id; pin a commit
    tokenizer: str | None = None  # folder or hub id; default: the checkpoint's own
    manifest: str  # URL of a Parquet, CSV or JSONL file, of a folder, or a glob
    output: str  # URL of a folder
    limit: int | None = Field(None, ge=1)  # only the first rows of the manifest
    seed: int = Field(0, ge=0, le=MAX_SEED)  # a row without a seed gets one from this and its id
    sampling: Sampling = Sampling()
    segments: Segments = Segments()
    audio: AudioConfig = AudioConfig()
    quality: QualitySettings = QualitySettings()  # which clips are rejected and spoken again (docs/quality.md)
    judges: JudgeSettings = JudgeSettings()  # models that listen to every clip, in a pool of their own
    rows_per_shard: int | None = Field(None, ge=1, le=4096)  # default: 4 to 64, by the manifest's size
    pools: Pools = Pools()
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)  # for fsspec; never saved or printed
    stall_timeout_s: float = Field(3600, gt=0)  # nothing moved for so long: start the missing shards again
    cluster_can_grow: bool = False  # an autoscaling cluster: don't check that the pools fit on today's nodes

    def __repr_args__(self) -> Any:
        """For print and for logs: URLs without secrets."""
        return [(name, redact(value) if isinstance(value, str) else value) for name, value in super().__repr_args__()]

    @model_validator(mode="after")
    def _limits_have_their_judges(self) -> "RunConfig":
        for limit in self.quality.reject.limits:
            judge = JUDGE_OF.get(limit.measure)
            if judge and judge not in self.judges.names:
                raise ValueError(f"quality.reject.{limit.measure} needs judges.{judge}, which is not set")
        return self

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """What a run's pools do, in order."""
        return stages_of(self.judges)

    @property
    def active_pools(self) -> dict[str, PoolConfig]:
        """Stage and pool, in the order of the pools; that of the judges only if there are any."""
        return {stage.name: self.pools[stage.name] for stage in self.stages}

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide what is in the output. The others may be changed before a resume."""
        settings = self.model_dump(mode="json", include={"revision", "seed", "sampling", "segments", "audio", "limit"})
        transformers = {name: self.pools[name] for name, stage in STAGES.items() if stage.is_transformer}
        settings["dtype"] = {name: pool.resolved_dtype for name, pool in transformers.items()}
        settings["quantize"] = {name: pool.quantize for name, pool in transformers.items()}
        settings["device"] = {name: pool.device_type for name, pool in self.active_pools.items()}
        if quality := self.quality.identity:
            settings["quality"] = quality
        return settings


Config = TypeVar("Config", bound=RunConfig)


def load_config(path: str | Path, changes: list[str] | None = None, **overrides: Any) -> RunConfig:
    """Read a YAML config; `changes` are `a.b=c` with YAML values, `overrides` win over both.

    Raises:
        ConfigError: unreadable file, unknown key (with a suggestion) or invalid value; it names file and key.
    """
    loaded = read_yaml(path)
    for change in changes or []:
        set_key(loaded, change)
    loaded |= {key: value for key, value in overrides.items() if value is not None}
    return parse(loaded, str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file; raises ConfigError."""
    try:
        loaded = from_yaml(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: must have keys and values, such as `model: suno/bark-small`")
    return loaded


def from_yaml(text: str | bytes, where: str) -> Any:
    """Parse a YAML value. Errors name the problem and the place, but repeat nothing of the text: it may be a password.

    Args:
        where: the file or option, for errors.
    """
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = re.sub(r"'([^']*)'", hide_user_text, error.problem or error.context or "syntax error")
        raise ConfigError(f"{where}: not valid YAML{place}: {' '.join(problem.split())}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # invalid characters, dates and depths
        raise ConfigError(f"{where}: not valid YAML: {type(error).__name__}") from error


def hide_user_text(quoted: re.Match[str]) -> str:
    """A quotation in a YAML error: `,` and `<stream end>` are YAML's own, everything else may be the user's text."""
    return quoted[0] if len(quoted[1]) <= 1 or re.fullmatch(r"<[a-z ]+>", quoted[1]) else "'...'"


def parse(values: dict[str, Any], where: str) -> RunConfig:
    """A config from plain values; `where` names the file in errors."""
    return parse_as(RunConfig, values, where)


def parse_as(kind: type[Config], values: dict[str, Any], where: str) -> Config:
    """As `parse`, for a class of configs that has more keys."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(explain(e, kind) for e in error.errors()[:5])) from error
    except ConfigError as error:  # Sampling's own check
        raise ConfigError(f"{where}: sampling: {error}") from error


def set_key(values: dict[str, Any], change: str) -> None:
    """Apply one `a.b=c` in place. Errors do not repeat the value: it may be a password."""
    path, sign, value = change.partition("=")
    if not sign or not path.strip():
        shown = path if not path.strip().startswith(SECRET) else SECRET
        raise ConfigError(f"--set {redact(shown)}: must be KEY=VALUE, such as sampling.semantic_temperature=0.6")
    *parents, last = path.strip().split(".")
    for parent in parents:
        group = values.get(parent, {})
        if not isinstance(group, dict):
            raise ConfigError(f"--set {path}: {parent} is not a group of keys")
        values[parent] = dict(group)  # a copy: with YAML anchors several groups may be one object
        values = values[parent]
    values[last] = from_yaml(value, f"--set {path}")


def explain(error: Any, kind: type[BaseModel] = RunConfig) -> str:
    """One pydantic error as `key: what is wrong`, with the nearest known key for an unknown one."""
    path = [" ".join(str(part).split()) for part in error["loc"] if part not in ("int", "Actors")]
    key = ".".join(path)
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key}: unknown key{suggest(path[-1], known_keys(path[:-1], kind))}"
    if error["type"] == "missing":
        return f"{key}: is missing"
    reason = error["msg"].removeprefix("Value error, ")
    if path[:1] == [SECRET]:
        return f"{SECRET}: {reason}"
    return f"{key}: {reason} (is {Shown().repr(error['input']):.100})"


class Shown(reprlib.Repr):
    """A shortened value for a message."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(redact(x), level)


def known_keys(path: list[str], kind: type[BaseModel] = RunConfig) -> list[str]:
    """The keys that are allowed at this place in the config."""
    section: Any = kind
    for name in path:
        annotation = keys_of(section)[name]
        options = get_args(annotation) or (annotation,)
        section = next((option for option in options if keys_of(option)), None)
    return list(keys_of(section))


def keys_of(section: Any) -> dict[str, Any]:
    """Names and types of a section's keys; empty for a plain value."""
    if is_dataclass(section):
        return {field.name: field.type for field in fields(section)}
    if isinstance(section, type) and issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    return {}


def suggest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
