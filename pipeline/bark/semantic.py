"""Text to semantic tokens: one request per utterance.

Source: suno-ai/bark `generation.py`, `generate_text_semantic`.
"""

from dataclasses import dataclass, replace
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
from pipeline.quality.attempts import attempt_seed

NO_SPEECH = "the model ended before its first token: try another seed, voice or text"
TOKENS_PER_TEXT_ID = 12  # about 0.25 s of speech; an estimate for scheduling and progress only


@dataclass(frozen=True)
class SemanticTokens:
    """Tokens (S,) int64 at 49.9 Hz without EOS, and why they ended: `eos`, `eos_p` or `length` (cut at the limit)."""

    tokens: np.ndarray
    stop: str
    seed: int | None = None  # of the draw, for the later stages; None: the utterance's own
    draws: tuple[dict[str, Any], ...] = ()  # all draws (schema.ATTEMPT), where there may be more than one


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
    """Generate the semantic tokens of one utterance: one request, which EOS or the limit ends.

    With a gate, tokens that it rejects are drawn again from another seed. Each draw is a request like any other, so the
    slots never wait for it.
    """
    ids = prompt_ids(utterance, vocabulary)
    gate = utterance.gate
    if gate is None:
        result = yield draw_request(ids, utterance.seed, utterance, vocabulary)
        if not result.tokens:
            raise RowError("no_speech", NO_SPEECH)
        return SemanticTokens(np.array(result.tokens), result.stop)
    draws: list[dict[str, Any]] = []
    chosen: SemanticTokens | None = None
    best = (False, -np.inf)  # whether it passed, and its score
    for attempt in range(gate.attempts):
        seed = attempt_seed(utterance.seed, attempt)
        result = yield draw_request(ids, seed, utterance, vocabulary)
        reason, score = gate.judge(np.array(result.tokens, dtype=np.int64), result.stop)
        draws.append({"seed": seed, "stage": "semantic", "segment": 0, "reason": reason, "score": score})
        if result.tokens and (reason is None, score) > best:
            chosen, best = SemanticTokens(np.array(result.tokens), result.stop, seed), (reason is None, score)
        if reason is None and not gate.chooses_best:
            break
    if chosen is None:
        raise RowError("no_speech", NO_SPEECH)
    return replace(chosen, draws=tuple(draws))


def draw_request(ids: np.ndarray, seed: int, utterance: Utterance, vocabulary: spec.Vocabulary) -> DecodeRequest:
    """The request for all tokens of one draw; `ids` is the prompt (513,)."""
    sampling = utterance.sampling
    params = SamplingParams(
        key=make_key(seed, "semantic"),
        temperature=sampling.semantic_temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        eos=vocabulary.semantic_pad_token if sampling.allow_early_stop else None,
        min_eos_p=sampling.min_eos_p,
    )
    # EOS is the id after the last semantic token; without early stop it can't be sampled
    high = vocabulary.semantic_vocab_size + int(sampling.allow_early_stop)
    return DecodeRequest(ids, sampling.max_semantic_tokens, ((0, high),), params)


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
