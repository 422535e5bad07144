"""What the semantic tokens say: phone (vowels with or without stress), how many tokens of it are left, how many phones
of the word follow (slot), and the word's place in the text. So a phone's length is decided once, when it begins, and a
transformer that is told where it is need not learn to count.

Pauses are phones, too, one for each punctuation: so the coarse model can hear a question coming.
"""

import numpy as np

CONSONANTS, VOWELS, PAUSES = "bdfhjklmnpstvwzðŋɡɹʃʒʤʧθT", "AIOWYiuɑæɐɔəɛɜɪʊʌᵊᵻ", "^,.?!"
SYMBOLS = [*CONSONANTS, *VOWELS, *(f"ˈ{vowel}" for vowel in VOWELS), *PAUSES]
INDEX = {symbol: i for i, symbol in enumerate(SYMBOLS)}
FIRST_PAUSE = INDEX["^"]
ALIKE = {";": ",", ":": ",", "—": ",", "…": ",", "ɾ": "T", "ɚ": "ə"}
LEFT, SLOTS, PLACES = 3, 5, 6  # of LEFT, the last stands for more, too
SEMANTIC = len(SYMBOLS) * LEFT * SLOTS * PLACES  # 6120
SEMANTIC_HZ, TEACHER_HZ = 49.9, 80


def slot_of(following):
    """Slot of a phone that so many of its word follow: 0 and 1 are exact, then 2, 3, 4, 2, 3, 4, ..."""
    return np.where(following < 2, following, 2 + (following - 2) % (SLOTS - 2))


def token_id(symbol, left, following, place):
    """All arguments may be arrays; left is 1 for the last token of a phone."""
    return ((symbol * LEFT + np.minimum(left, LEFT) - 1) * SLOTS + slot_of(following)) * PLACES + place % PLACES


def parts_of(token):
    """symbol, left, slot, place of token ids."""
    token, place = np.divmod(token, PLACES)
    token, slot = np.divmod(token, SLOTS)
    symbol, left = np.divmod(token, LEFT)
    return symbol, left + 1, slot, place


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


def located(phones: list[tuple[int, int, int]], start: int, count: int) -> tuple[np.ndarray, ...]:
    """For `count` tokens from teacher's frame `start` on: the tokens but for their word's place; how many of its phone
    are left, itself included; its word's number (a pause belongs to the word before it); whether it is a pause."""
    ends = np.cumsum([frames for _, frames, _ in phones])
    symbols, words = (np.array([phone[k] for phone in phones]) for k in (0, 2))
    following, word_after = np.zeros(len(phones), int), -1
    for n, (symbol, _, word) in reversed([*enumerate(phones)]):
        following[n] = following[n + 1] + 1 if word == word_after and symbol < FIRST_PAUSE else 0
        word_after = word if symbol < FIRST_PAUSE else -1
    middle = start + (np.arange(count) + 0.5) / SEMANTIC_HZ * TEACHER_HZ + 0.5
    at = np.minimum(np.searchsorted(ends, middle, side="right"), len(ends) - 1)
    last = np.append(np.flatnonzero(np.diff(at)), count - 1)  # token of each phone
    left = last[np.searchsorted(last, np.arange(count))] - np.arange(count) + 1
    return token_id(symbols[at], left, following[at], 0), left, words[at], symbols[at] >= FIRST_PAUSE
