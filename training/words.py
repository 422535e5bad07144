"""What the semantic tokens say: phone (vowels with or without stress), half of the phone, its place in the word, and
the word's place in the text. A transformer that is told where it is need not learn to count.

Pauses are phones, too, one for each punctuation: so the coarse model can hear a question coming.
"""

import numpy as np

CONSONANTS, VOWELS, PAUSES = "bdfhjklmnpstvwzðŋɡɹʃʒʤʧθT", "AIOWYiuɑæɐɔəɛɜɪʊʌᵊᵻ", "^,.?!"
SYMBOLS = [*CONSONANTS, *VOWELS, *(f"ˈ{vowel}" for vowel in VOWELS), *PAUSES]
INDEX = {symbol: i for i, symbol in enumerate(SYMBOLS)}
FIRST_PAUSE = INDEX["^"]
ALIKE = {";": ",", ":": ",", "—": ",", "…": ",", "ɾ": "T", "ɚ": "ə"}
HALVES, SLOTS, PLACES = 2, 4, 6
SEMANTIC = len(SYMBOLS) * HALVES * SLOTS * PLACES  # 3264
SEMANTIC_HZ, TEACHER_HZ = 49.9, 80


def token_id(symbol, half, slot, place):
    """All arguments may be arrays."""
    return ((symbol * HALVES + half) * SLOTS + slot % SLOTS) * PLACES + place % PLACES


def parts_of(token):
    """symbol, half, slot, place of token ids."""
    token, place = np.divmod(token, PLACES)
    token, slot = np.divmod(token, SLOTS)
    return (*np.divmod(token, HALVES), slot, place)


def phones_of(rows: np.ndarray) -> list[tuple[int, int, int]]:
    """The teacher's symbols (code point, frames, word) -> phones (index, frames, word) that fill the same time.

    A stress mark and its frames go to the vowel after it, a space's frames to both neighbours, or to a pause.
    """
    found: list[list[int]] = []
    ahead, stressed, last = 0, False, len(rows) - 1
    for n, (point, frames, word) in enumerate(rows.tolist()):
        symbol = ALIKE.get(chr(point), chr(point))
        if point == 0 and n == 0:
            found.append([INDEX["^"], frames, 0])
        elif symbol in "ˈˌ":
            ahead, stressed = ahead + frames, symbol == "ˈ"
        elif symbol in VOWELS or symbol in CONSONANTS:
            name = f"ˈ{symbol}" if stressed and symbol in VOWELS else symbol
            found.append([INDEX[name], frames + ahead, word])
            ahead, stressed = 0, stressed and symbol in CONSONANTS
        elif symbol in PAUSES:
            found.append([INDEX[symbol], frames + ahead, word])
            ahead = 0
        elif symbol == " " and found[-1][0] < FIRST_PAUSE and n < last:
            found[-1][1] += frames // 2
            ahead += frames - frames // 2
        else:
            found[-1][1] += frames
    found[-1][1] += ahead
    return [tuple(phone) for phone in found]


def located(phones: list[tuple[int, int, int]], start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens but for their word's place, each token's number of word (a pause belongs to the word before it, as 'pause'
    1), for `count` tokens from teacher's frame `start` on; and whether each is a pause."""
    ends = np.cumsum([frames for _, frames, _ in phones])
    begins = ends - np.array([frames for _, frames, _ in phones])
    symbols, words = (np.array([phone[k] for phone in phones]) for k in (0, 2))
    slots, word_before = np.zeros(len(phones), int), -1
    for n, (symbol, _, word) in enumerate(phones):
        slots[n] = 0 if word != word_before or symbol >= FIRST_PAUSE or n == 0 else slots[n - 1] + 1
        word_before = word if symbol < FIRST_PAUSE else -1
    middle = start + (np.arange(count) + 0.5) / SEMANTIC_HZ * TEACHER_HZ + 0.5
    at = np.minimum(np.searchsorted(ends, middle, side="right"), len(ends) - 1)
    half = ((middle - begins[at]) / np.maximum(ends[at] - begins[at], 1) * HALVES).astype(int).clip(0, HALVES - 1)
    return token_id(symbols[at], half, slots[at], 0), words[at], symbols[at] >= FIRST_PAUSE
