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
    """Generate the coarse codes of one utterance, window by window; returns codes (2, F) int64.

    Each window reads 256 semantic tokens around its position and the last 630 coarse tokens, and generates 60 more.
    Until one of the two contexts slides, a window's prompt is the last window's prompt plus its tokens, so the request
    continues in its slot with its KV cache. That is exact, and without a voice it holds for the first 4.4 s.
    """
    params = SamplingParams(
        key=make_key(utterance.seed, "coarse"),
        temperature=utterance.sampling.coarse_temperature,
        top_k=utterance.sampling.top_k,
        top_p=utterance.sampling.top_p,
    )
    ranges = tuple(vocabulary.coarse_range(k) for k in range(spec.NUM_COARSE_CODEBOOKS))
    window, max_history = utterance.sampling.coarse_window, utterance.sampling.coarse_history
    max_semantic = int(max_history // spec.COARSE_PER_SEMANTIC)
    history: tuple[np.ndarray, np.ndarray] = (semantic[:0], semantic[:0])
    if utterance.voice:
        utterance.voice.fits(vocabulary)
        history = utterance.voice.coarse_history(max_semantic)
    context = np.concatenate([history[0], semantic])  # semantic tokens
    coarse = list(history[1] + ranges[0][0])  # coarse tokens, with offsets
    num_steps = spec.num_coarse_steps(semantic.size)
    last_start = -1
    for step in range(0, num_steps, window):
        position = history[0].size + round(step / spec.COARSE_PER_SEMANTIC)
        start = max(0, position - max_semantic)
        continues = start == last_start and len(coarse) <= max_history
        prompt = None if continues else window_prompt(context[start:], coarse[-max_history:], vocabulary)
        last_start = start
        result = yield DecodeRequest(prompt, min(window, num_steps - step), ranges, params, first_step=step)
        coarse += result.tokens
    tokens = np.array(coarse[len(history[1]) :]).reshape(-1, spec.NUM_COARSE_CODEBOOKS).T  # (2, F)
    return tokens - np.array([[low] for low, _ in ranges])


def window_prompt(semantic: np.ndarray, coarse: list[int], vocabulary: spec.Vocabulary) -> np.ndarray:
    """[semantic 256, right-padded | infer | coarse <= 630] -> (P,) int64, 257 <= P <= 887."""
    context = np.full(spec.COARSE_SEMANTIC_LEN, vocabulary.coarse_semantic_pad_token)
    tokens = semantic[: spec.COARSE_SEMANTIC_LEN]
    context[: tokens.size] = tokens
    return np.concatenate([context, [vocabulary.coarse_infer_token], np.array(coarse, dtype=np.int64)])


class CoarseStage:
    """The coarse transformer, which generates for several utterances at once."""

    def __init__(self, model: GPT, vocabulary: spec.Vocabulary, slots: int):
        self.vocabulary = vocabulary
        positions = spec.COARSE_PROMPT_LEN + spec.MAX_COARSE_HISTORY + spec.COARSE_WINDOW  # 947
        self.engine = make_engine(model, slots, positions)

    def submit(self, utterance: Utterance, x: np.ndarray, done: DoneCallback) -> None:
        self.engine.submit(generation_task(utterance, x, self.vocabulary), done, length=spec.num_coarse_steps(x.size))

    def step(self) -> bool:
        return self.engine.step()

    @property
    def stats(self) -> Stats:
        return engine_stats(self.engine)
