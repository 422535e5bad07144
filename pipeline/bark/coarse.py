"""Semantic tokens to the first two codebooks: a chain of windows per utterance.

Source: suno-ai/bark `generation.py`, `generate_coarse`.
"""

import numpy as np

from pipeline import spec
from pipeline.bark.engine_factory import engine_stats, make_engine
from pipeline.bark.stage import DoneCallback, Stats, Utterance
from pipeline.engine.engine import DecodeRequest, GenerationTask
from pipeline.engine.random import make_key
from pipeline.engine.sampling import SamplingParams
from pipeline.model.gpt import GPT


def generation_task(utterance: Utterance, semantic: np.ndarray, vocabulary: spec.Vocabulary) -> GenerationTask:
    """The windows of one utterance, without a tensor; returns codes (2, F) int64.

    Each window sees 256 semantic tokens around its place and the last 630 coarse tokens, and makes 60 more. While
    neither has begun to slide, a window's prompt is the one before plus its tokens: it goes on in its slot and
    keeps the cache (exact; without a voice that holds for the first 4.4 s).
    """
    params = SamplingParams(
        key=make_key(utterance.seed, "coarse"),
        temperature=utterance.sampling.coarse_temperature,
        top_k=utterance.sampling.top_k,
        top_p=utterance.sampling.top_p,
    )
    ranges = tuple(vocabulary.coarse_range(k) for k in range(spec.NUM_COARSE_CODEBOOKS))
    window, most = utterance.sampling.coarse_window, utterance.sampling.coarse_history
    most_semantic = int(most // spec.COARSE_PER_SEMANTIC)
    history: tuple[np.ndarray, np.ndarray] = (semantic[:0], semantic[:0])
    if utterance.voice:
        utterance.voice.fits(vocabulary)
        history = utterance.voice.coarse_history(most_semantic)
    known = np.concatenate([history[0], semantic])  # semantic tokens
    coarse = list(history[1] + ranges[0][0])  # coarse tokens, with offsets
    num_steps = spec.num_coarse_steps(semantic.size)
    last_start = -1
    for step in range(0, num_steps, window):
        place = history[0].size + round(step / spec.COARSE_PER_SEMANTIC)
        start = max(0, place - most_semantic)
        goes_on = start == last_start and len(coarse) <= most
        prompt = None if goes_on else window_prompt(known[start:], coarse[-most:], vocabulary)
        last_start = start
        result = yield DecodeRequest(prompt, min(window, num_steps - step), ranges, params, first_step=step)
        coarse += result.tokens
    made = np.array(coarse[len(history[1]) :]).reshape(-1, spec.NUM_COARSE_CODEBOOKS).T  # (2, F)
    return made - np.array([[low] for low, _ in ranges])


def window_prompt(semantic: np.ndarray, coarse: list[int], vocabulary: spec.Vocabulary) -> np.ndarray:
    """[semantic 256, right-padded | infer | coarse <= 630] -> (P,) int64, 257 <= P <= 887."""
    context = np.full(spec.COARSE_SEMANTIC_LEN, vocabulary.coarse_semantic_pad_token)
    seen = semantic[: spec.COARSE_SEMANTIC_LEN]
    context[: seen.size] = seen
    return np.concatenate([context, [vocabulary.coarse_infer_token], np.array(coarse, dtype=np.int64)])


class CoarseStage:
    """The coarse transformer in its slots."""

    def __init__(self, model: GPT, vocabulary: spec.Vocabulary, slots: int):
        self.vocabulary = vocabulary
        positions = spec.COARSE_PROMPT_LEN + spec.MAX_COARSE_HISTORY + spec.COARSE_WINDOW  # 947
        self.engine = make_engine(model, slots, positions)

    def submit(self, utterance: Utterance, x: np.ndarray, done: DoneCallback) -> None:
        self.engine.submit(generation_task(utterance, x, self.vocabulary), done, length=x.size)

    def step(self) -> bool:
        return self.engine.step()

    @property
    def stats(self) -> Stats:
        return engine_stats(self.engine)
