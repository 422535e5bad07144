"""Text to semantic tokens: one request per utterance.

Source: suno-ai/bark `generation.py`, `generate_text_semantic`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import spec
from pipeline.bark.engine_factory import engine_stats, make_engine
from pipeline.bark.stage import DoneCallback, Stats, Utterance
from pipeline.engine.engine import DecodeRequest, GenerationTask
from pipeline.engine.random import make_key
from pipeline.engine.sampling import SamplingParams
from pipeline.errors import RowError
from pipeline.model.gpt import GPT

TOKENS_PER_TEXT_ID = 12  # about 0.25 s of speech; an estimate for scheduling and progress only


@dataclass(frozen=True)
class SemanticTokens:
    """Tokens (S,) int64 at 49.9 Hz without EOS, and why they ended: `eos`, `eos_p` or `length` (cut at the limit)."""

    tokens: np.ndarray
    stop: str


def as_input(output: Any) -> Any:
    """A stage's output as the next stage takes it: the tokens alone; codes and errors as they are."""
    return output.tokens if isinstance(output, SemanticTokens) else output


def prompt_ids(utterance: Utterance, vocabulary: spec.Vocabulary) -> np.ndarray:
    """The prompt [text 256 | history 256 | infer] as (513,) int64. The model sums text and history: 257 positions."""
    assert utterance.text_ids is not None
    text = np.full(spec.TEXT_LEN, vocabulary.text_pad_token)
    text[: utterance.text_ids.size] = utterance.text_ids + vocabulary.text_encoding_offset
    history = np.full(spec.SEMANTIC_HISTORY_LEN, vocabulary.semantic_pad_token)
    if utterance.voice:
        utterance.voice.fits(vocabulary)
        voice = utterance.voice.semantic_history
        history[: voice.size] = voice
    return np.concatenate([text, history, [vocabulary.semantic_infer_token]])


def generation_task(utterance: Utterance, vocabulary: spec.Vocabulary) -> GenerationTask:
    """Generate the semantic tokens of one utterance: one request, which EOS or the limit ends."""
    sampling = utterance.sampling
    params = SamplingParams(
        key=make_key(utterance.seed, "semantic"),
        temperature=sampling.semantic_temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        eos=vocabulary.semantic_pad_token if sampling.allow_early_stop else None,
        min_eos_p=sampling.min_eos_p,
    )
    # EOS is the id after the last semantic token; without early stop it can't be sampled
    high = vocabulary.semantic_vocab_size + int(sampling.allow_early_stop)
    ids = prompt_ids(utterance, vocabulary)
    result = yield DecodeRequest(ids, sampling.max_semantic_tokens, ((0, high),), params)
    if not result.tokens:
        raise RowError("no_speech", "the model ended before its first token: try another seed, voice or text")
    return SemanticTokens(np.array(result.tokens), result.stop)


def expected_length(utterance: Utterance) -> int:
    """Number of semantic tokens: exact without early stop, else an estimate from the text."""
    assert utterance.text_ids is not None
    limit = utterance.sampling.max_semantic_tokens
    return min(limit, TOKENS_PER_TEXT_ID * utterance.text_ids.size) if utterance.sampling.allow_early_stop else limit


class SemanticStage:
    """The semantic transformer, which generates for several utterances at once."""

    def __init__(self, model: GPT, vocabulary: spec.Vocabulary, slots: int):
        self.vocabulary = vocabulary
        self.engine = make_engine(model, slots, spec.BLOCK_SIZE)

    def submit(self, utterance: Utterance, x: Any, done: DoneCallback) -> None:
        self.engine.submit(generation_task(utterance, self.vocabulary), done, expected_length(utterance))

    def step(self) -> bool:
        return self.engine.step()

    @property
    def stats(self) -> Stats:
        return engine_stats(self.engine)
