"""Bark's numbers: every constant of the algorithm, once, with its unit.

Letters used for shapes everywhere: B rows, T positions, P prompt positions, S slots, L layers, H heads, D head
width, C model width, V vocabulary, Q codebooks, F codec frames, N audio samples.

Source: suno-ai/bark `generation.py` and the published checkpoints' `generation_config.json`.
"""

from dataclasses import dataclass


def exact_div(a: int, b: int) -> int:
    """a / b, which must be whole: a wrong constant can't be imported."""
    if a % b:
        raise ArithmeticError(f"{a} is not divisible by {b}")
    return a // b


# Rates
SEMANTIC_RATE_HZ = 49.9  # semantic tokens per second
COARSE_RATE_HZ = 75  # codec frames per second
SAMPLE_RATE = 24_000  # audio samples per second
SAMPLES_PER_FRAME = exact_div(SAMPLE_RATE, COARSE_RATE_HZ)  # 320
UPSAMPLING_RATIOS = (8, 5, 4, 2)  # of the codec's decoder; their product is SAMPLES_PER_FRAME

# Codec
CODEBOOK_SIZE = 1024  # codes per codebook
NUM_COARSE_CODEBOOKS = 2
NUM_CODEBOOKS = 8  # 6 kbit/s of EnCodec's 32 codebooks

# Transformers
BLOCK_SIZE = 1024  # positions of all three transformers
HEAD_WIDTH = 64  # of the published models; other sizes state theirs

# Semantic stage
TEXT_LEN = 256  # text ids in the prompt, right-padded
SEMANTIC_HISTORY_LEN = 256  # semantic ids of the voice, right-padded, summed onto the text
SEMANTIC_PROMPT_LEN = TEXT_LEN + 1  # positions after summing: 256 and the infer token
MAX_SEMANTIC_TOKENS = BLOCK_SIZE - SEMANTIC_PROMPT_LEN + 1  # 768: the last one is never fed

# Coarse stage
COARSE_SEMANTIC_LEN = 256  # semantic ids in each window's prompt
MAX_COARSE_HISTORY = 630  # coarse tokens in each window's prompt
COARSE_WINDOW = 60  # coarse tokens made by one window
COARSE_PER_SEMANTIC = COARSE_RATE_HZ / SEMANTIC_RATE_HZ * NUM_COARSE_CODEBOOKS  # 3.006012024048096
MAX_COARSE_SEMANTIC_HISTORY = int(MAX_COARSE_HISTORY // COARSE_PER_SEMANTIC)  # 209
COARSE_PROMPT_LEN = COARSE_SEMANTIC_LEN + 1  # positions before the coarse history

# Fine stage
FINE_WINDOW = 1024  # frames of one forward pass
FINE_HISTORY = 512  # frames of the voice before the first window
FINE_HOP = 512  # frames between windows
FINE_PAD = CODEBOOK_SIZE  # the id that stands for "no code yet"

assert SEMANTIC_PROMPT_LEN + MAX_SEMANTIC_TOKENS - 1 == BLOCK_SIZE
assert COARSE_PROMPT_LEN + MAX_COARSE_HISTORY + COARSE_WINDOW <= BLOCK_SIZE
assert MAX_COARSE_SEMANTIC_HISTORY == 209


@dataclass(frozen=True)
class Vocabulary:
    """Numbers that a checkpoint may state for itself (`generation_config.json`); the defaults are Bark's."""

    semantic_vocab_size: int = 10_000  # semantic tokens; the next id is pad and EOS
    text_encoding_offset: int = 10_048  # a tokenizer's id 0
    text_pad_token: int = 129_595
    semantic_infer_token: int = 129_599
    coarse_semantic_pad_token: int = 12_048
    coarse_infer_token: int = 12_050
    max_segment_tokens: int = 64  # text ids that one pass speaks well: longer texts are split

    @property
    def semantic_pad_token(self) -> int:
        """Pads the semantic history and, when generated, ends the utterance."""
        return self.semantic_vocab_size

    def coarse_range(self, codebook: int) -> tuple[int, int]:
        """Ids [low, high) of one coarse codebook: code c of codebook k is `semantic_vocab_size + 1024 k + c`."""
        low = self.semantic_vocab_size + codebook * CODEBOOK_SIZE
        return low, low + CODEBOOK_SIZE


def num_coarse_steps(num_semantic: int) -> int:
    """Coarse tokens for a number of semantic tokens: two for each whole frame (always even)."""
    return int(num_semantic * COARSE_PER_SEMANTIC / NUM_COARSE_CODEBOOKS) * NUM_COARSE_CODEBOOKS
