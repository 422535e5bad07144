"""The Python interface: all four stages in one process, with the same stage objects as the Ray pools."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import spec
from pipeline.bark.build import load_text_encoder, make_execution_config
from pipeline.bark.defaults import PAUSE_S
from pipeline.bark.long_text import join, segment_seed
from pipeline.bark.registry import build_stages
from pipeline.bark.semantic import as_input
from pipeline.bark.stage import Stage, Utterance, run
from pipeline.bark.text import SegmentLimits
from pipeline.bark.voice import HistoryPrompt, load_voice
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.hub import resolve
from pipeline.dataset.player import clip_html
from pipeline.errors import ConfigError, RowError
from pipeline.sampling import MAX_SEED, Sampling
from pipeline.shards.audio import encode, to_int16

Voice = str | Path | HistoryPrompt


@dataclass(frozen=True, eq=False)
class Result:
    """The output for one text. All arrays are empty if `error` is set."""

    text: str
    seed: int
    semantic: np.ndarray  # (S,) int64, 49.9 Hz
    coarse: np.ndarray  # (2, F) int64 codes, 75 Hz
    fine: np.ndarray  # (8, F) int64 codes, the first two are `coarse`
    audio: np.ndarray  # (N,) float32 samples at 24 kHz, N = 320 F, not clipped
    stop: str  # `eos`, `eos_p`, `length` (cut at max_semantic_tokens), or `error`
    error: RowError | None = None

    @property
    def duration_s(self) -> float:
        return self.audio.size / spec.SAMPLE_RATE

    def _repr_html_(self) -> str:
        """A player, in Jupyter."""
        if self.error:
            return f"<p>{escape(self.text)}</p><p><small>{escape(f'{self.error.kind}: {self.error}')}</small></p>"
        facts = {"seed": self.seed, "duration": f"{self.duration_s:.2f} s", "stop": self.stop}
        return clip_html(encode(to_int16(self.audio), "flac"), self.text, facts)

    def as_voice(self) -> HistoryPrompt:
        """This utterance as a voice for other utterances."""
        return HistoryPrompt(self.semantic, self.coarse, self.fine)

    def save_voice(self, path: str | Path) -> None:
        """Write this utterance as a voice file (`.npz`, Suno's format)."""
        self.as_voice().save(path)


class Bark:
    """A loaded model. Create it with `Bark.load`."""

    def __init__(self, stages: dict[str, Stage], checkpoint: Checkpoint, tokenizer: str | None = None):
        self.stages = stages
        self.checkpoint = checkpoint
        self.encoder = load_text_encoder(checkpoint, tokenizer)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer: str | None = None,
        slots: int | None = None,
        quantize: str | None = None,
    ) -> "Bark":
        """Load a checkpoint: a local folder in either published layout, or a hub id.

        Args:
            name_or_path: folder, or hub id such as `suno/bark-small`.
            device: `auto` (CUDA if available), `cpu`, `cuda`, `cuda:1`.
            dtype: `auto` (float32 on a CPU, bfloat16 on CUDA), `float32`, `bfloat16`, `float16`; the codec is float32.
            revision: commit, tag or branch of a hub id; pin a commit for reproducible results.
            tokenizer: folder or hub id; by default the checkpoint's own, else bert-base-multilingual-cased.
            slots: utterances generated at the same time, 1 to 4 or a multiple of 4; each needs its KV cache.
            quantize: `int8` for 8-bit weights on a CPU: faster, but other tokens (docs/speed.md); None is exact.

        Raises:
            CheckpointError: the model can't be found or read, or is no Bark model.
            ConfigError: this machine can't compute as asked.
        """
        checkpoint = Checkpoint(resolve(str(name_or_path), revision))
        execution = make_execution_config(
            device=device, dtype=dtype, slots=slots, quantize=quantize, width=checkpoint.width
        )
        return cls(build_stages(checkpoint, execution), checkpoint, tokenizer)

    def generate(
        self,
        texts: Sequence[str],
        *,
        voices: Sequence[Voice | None] | None = None,
        seeds: Sequence[int | None] | None = None,
        sampling: Sampling | Sequence[Sampling] | None = None,
    ) -> list[Result]:
        """One Bark pass per text; results in input order, each independent of what else is in the call.

        Args:
            texts: each at most 256 tokens; `say` splits longer ones.
            voices: one per text: a preset name, a path or URL of an `.npz`, a HistoryPrompt, or None.
            seeds: one per text; None draws a random one, which the result has.
            sampling: one for all, or one per text.

        Raises:
            RowError: a text or voice that can't be used. Later failures are in the `error` of their result.
            ConfigError: lists of different lengths, or a seed out of range.
        """
        utterances = self._utterances(texts, voices, seeds, sampling)
        outputs: dict[str, list[Any]] = {}  # by stage
        inputs: list[Any] = [None] * len(utterances)
        for name, stage in self.stages.items():
            outputs[name] = run(stage, utterances, inputs)
            inputs = [as_input(output) for output in outputs[name]]
        return [
            collect(text, utterance.seed, {name: each[i] for name, each in outputs.items()})
            for i, (text, utterance) in enumerate(zip(texts, utterances, strict=True))
        ]

    def say(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        seed: int | None = None,
        sampling: Sampling | None = None,
        language: str | None = None,
        limits: SegmentLimits | None = None,
        pause_s: float = PAUSE_S,
    ) -> np.ndarray:
        """A text of any length as (N,) float32 samples at 24 kHz: split, generated, joined with pauses.

        Raises:
            RowError: the text or voice can't be used, or a segment could not be generated.
        """
        segments = self.encoder.split(text, limits, language)
        seed = secrets.randbits(32) if seed is None else seed
        results = self.generate(
            segments,
            voices=[voice] * len(segments),
            seeds=[segment_seed(seed, i) for i in range(len(segments))],
            sampling=sampling,
        )
        for result in results:
            if result.error:
                raise result.error
        return join([result.audio for result in results], pause_s)

    def _utterances(
        self,
        texts: Sequence[str],
        voices: Sequence[Voice | None] | None,
        seeds: Sequence[int | None] | None,
        sampling: Sampling | Sequence[Sampling] | None,
    ) -> list[Utterance]:
        if isinstance(texts, str):
            raise ConfigError("texts must be a list of texts, not one text")
        count = len(texts)
        voices = [None] * count if voices is None else voices
        seeds = [None] * count if seeds is None else seeds
        samplings = [sampling or Sampling()] * count if isinstance(sampling, Sampling | None) else sampling
        for name, values in (("voices", voices), ("seeds", seeds), ("sampling", samplings)):
            if isinstance(values, str) or len(values) != count:
                raise ConfigError(f"{name} must be one per text: {len(values)} for {count} texts")
        folder = self.checkpoint.folder
        return [
            Utterance(check_seed(seed), each, find_voice(voice, folder), self.encoder.encode(text))
            for text, voice, seed, each in zip(texts, voices, seeds, samplings, strict=True)
        ]


def collect(text: str, seed: int, outputs: dict[str, Any]) -> Result:
    """A Result from one text's output of each stage. After an error, all later outputs are that error."""
    semantic, audio = outputs["semantic"], outputs["decode"]
    empty = Result(
        text, seed, np.zeros(0, np.int64), np.zeros((2, 0), np.int64), np.zeros((8, 0), np.int64),
        np.zeros(0, np.float32), "error",
    )  # fmt: skip
    if isinstance(audio, RowError):
        return replace(empty, error=audio)
    return replace(
        empty,
        semantic=semantic.tokens,
        coarse=outputs["coarse"],
        fine=outputs["fine"],
        audio=audio,
        stop=semantic.stop,
    )


def find_voice(voice: Voice | None, folder: Path) -> HistoryPrompt | None:
    if voice is None or isinstance(voice, HistoryPrompt):
        return voice
    return load_voice(str(voice), folder)


def check_seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbits(32)
    if not 0 <= int(seed) <= MAX_SEED:
        raise ConfigError(f"seed must be from 0 to 2^63 - 1, is {seed}")
    return int(seed)
