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

TOKENS_PER_TEXT_ID = 12  # about 0.25 s of speech; only the order of starting follows from it


@dataclass(frozen=True)
class SemanticTokens:
    """tokens (S,) int64 at 49.9 Hz without EOS, and why they end: `eos`, `eos_p` or `length` (cut at the limit)."""

    tokens: np.ndarray
    stop: str


def as_input(output: Any) -> Any:
    """A stage's output as the next stage takes it: the tokens alone; codes and errors as they are."""
    return output.tokens if isinstance(output, SemanticTokens) else output


def prompt_ids(utterance: Utterance, vocabulary: spec.Vocabulary) -> np.ndarray:
    """[text 256 | history 256 | infer] -> (513,) int64: the model sums the first two, so 257 positions."""
    assert utterance.text_ids is not None
    text = np.full(spec.TEXT_LEN, vocabulary.text_pad_token)
    text[: utterance.text_ids.size] = utterance.text_ids + vocabulary.text_encoding_offset
    history = np.full(spec.SEMANTIC_HISTORY_LEN, vocabulary.semantic_pad_token)
    if utterance.voice:
        utterance.voice.fits(vocabulary)
        known = utterance.voice.semantic_history
        history[: known.size] = known
    return np.concatenate([text, history, [vocabulary.semantic_infer_token]])


def generation_task(utterance: Utterance, vocabulary: spec.Vocabulary) -> GenerationTask:
    """The rules of the semantic stage, without a tensor: one request, ended by EOS or by the limit."""
    sampling = utterance.sampling
    params = SamplingParams(
        key=make_key(utterance.seed, "semantic"),
        temperature=sampling.semantic_temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        eos=vocabulary.semantic_pad_token if sampling.allow_early_stop else None,
        min_eos_p=sampling.min_eos_p,
    )
    # EOS is the id after the last semantic token; without early stop it can't be drawn at all
    high = vocabulary.semantic_vocab_size + int(sampling.allow_early_stop)
    ids = prompt_ids(utterance, vocabulary)
    result = yield DecodeRequest(ids, sampling.max_semantic_tokens, ((0, high),), params)
    if not result.tokens:
        raise RowError("no_speech", "the model ended before its first token: try another seed, voice or text")
    return SemanticTokens(np.array(result.tokens), result.stop)


def expected_length(utterance: Utterance) -> int:
    """Semantic tokens to come: known without early stop, else guessed from the text."""
    assert utterance.text_ids is not None
    most = utterance.sampling.max_semantic_tokens
    return min(most, TOKENS_PER_TEXT_ID * utterance.text_ids.size) if utterance.sampling.allow_early_stop else most


class SemanticStage:
    """The semantic transformer in its slots."""

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
