"""Sentences, their ids and pauses, and books in other formats."""

from pathlib import Path

import pytest

from pipeline.books.book import BookSettings
from pipeline.books.chosen import choose, parse_chapters
from pipeline.books.open import find_books, read_book
from pipeline.books.rows import Sentence, sentences_of
from pipeline.books.sentences import split
from pipeline.errors import ConfigError

STORY = """# The Oven

## Morning

Anna lit the oven. "Is it hot?" asked Ben. "It is hot now."

She waited for an hour. The bread was ready.

## Evening

Ben came home late. Anna lit the oven.
"""


def rows(folder: Path, text: str, name: str = "story.md", **settings: object) -> list[Sentence]:
    (folder / name).write_text(text)
    checked = BookSettings.model_validate(settings)
    return list(sentences_of(read_book(str(folder / name), checked), checked))


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ('"Stop!" he said. She stopped at once.', "en", ['"Stop!" he said.', "She stopped at once."]),
        ("Dr. Smith arrived at 5 p.m. yesterday. He was late.", "en",
         ["Dr. Smith arrived at 5 p.m. yesterday.", "He was late."]),
        ("„Komm her!“, rief Anna. Ben kam am 3. Mai.", "de", ["„Komm her!“, rief Anna.", "Ben kam am 3. Mai."]),
        ("No. The bread was ready.", "en", ["No. The bread was ready."]),
        ("The bread was ready. Yes. It was warm and brown.", "en", ["The bread was ready. Yes.", "It was warm and brown."]),
        ("春は曙である。夏は夜がよい。", "ja", ["春は曙である。", "夏は夜がよい。"]),
    ],
)  # fmt: skip
def test_split(text: str, language: str, expected: list[str]) -> None:
    assert split(text, language) == expected


def test_markdown_has_chapters_kinds_and_pauses(tmp_path: Path) -> None:
    found = rows(tmp_path, STORY)
    assert [(row.chapter, row.chapter_title) for row in found if row.kind == "title"] == [
        (1, "Morning"), (1, "Morning"), (2, "Evening"),
    ]  # fmt: skip
    assert found[2].text == "Anna lit the oven." and found[2].pause_after_s == 0.35
    assert [row.pause_after_s for row in found if row.text.startswith(('"It is', "The Oven", "No"))][:2] == [1.2, 0.75]
    assert found[-1].pause_after_s == 2.5
    assert len({row.id for row in found}) == len(found)


def test_ids_do_not_depend_on_the_position(tmp_path: Path) -> None:
    before = rows(tmp_path, STORY)
    edited = STORY.replace("She waited for an hour.", "She waited for two hours.").replace(
        "## Morning", "## Morning\n\nA sentence was inserted here."
    ).replace("## Evening", "## Noon\n\nThe sun shone on it.\n\n## Evening")  # fmt: skip
    after = rows(tmp_path, edited)
    old, new = {row.id: row.text for row in before}, {row.id: row.text for row in after}
    assert {text for key, text in new.items() if key not in old} == {
        "She waited for two hours.", "A sentence was inserted here.", "Noon", "The sun shone on it.",
    }  # fmt: skip
    assert all(new[key] == text for key, text in old.items() if key in new)


def test_a_sentence_that_occurs_twice_has_two_ids(tmp_path: Path) -> None:
    found = rows(tmp_path, "# A\n\nThe rain fell down. The rain fell down.\n")
    assert found[2].id == f"{found[1].id}-2"


def test_plain_text_and_html(tmp_path: Path) -> None:
    text = rows(tmp_path, "Chapter 1\n\nA first line\nof text here.\r\n\r\nChapter II\n\nMore of the text.", "a.txt")
    assert [row.chapter_title for row in text] == ["Chapter 1"] * 2 + ["Chapter II"] * 2
    html = rows(tmp_path, "<html lang=de><title>T</title><h1>Eins</h1><p>Ein kurzer Satz.<h1>Zwei</h1><p>Noch ein Satz.",
                "b.html")  # fmt: skip
    assert [(row.chapter, row.language) for row in html] == [(1, "de"), (1, "de"), (2, "de"), (2, "de")]


def test_books_by_folder_and_glob(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "notes.pdf", ".hidden.md"):
        (tmp_path / name).write_text("One line of text.")
    expected = [str(tmp_path / "a.txt"), str(tmp_path / "b.md")]
    assert find_books([str(tmp_path)]) == find_books([f"{tmp_path}/*"]) == expected
    assert find_books([f"file://{tmp_path}/*.md"]) == [f"file://{tmp_path}/b.md"]
    (tmp_path / "a.md").write_text("One line of text.")
    with pytest.raises(ConfigError, match="has the same name"):
        find_books([str(tmp_path)])
    for bad, message in ((f"{tmp_path}/notes.pdf", "is no book"), (f"{tmp_path}/x.md", "no such file")):
        with pytest.raises(ConfigError, match=message):
            find_books([bad])


@pytest.mark.parametrize(("text", "numbers"), [("2-5", [2, 3, 4, 5]), ("1,3", [1, 3]), ("4-", [4, 5, 6])])
def test_chosen_chapters(text: str, numbers: list[int]) -> None:
    assert [n for n in range(1, 7) if any(n in r for r in parse_chapters(text))] == numbers


def test_a_book_without_the_chosen_chapters(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One\n\nA first text is here.\n\n# Two\n\nA second text is here.")
    rows = list(sentences_of(read_book(str(tmp_path / "a.md"), BookSettings()), BookSettings()))
    assert choose(rows, None, "a.md") == rows and {row.chapter for row in choose(rows, [range(2, 4)], "a.md")} == {2}
    with pytest.raises(ConfigError, match=r"^a\.md: has none of the chapters that --chapters names; its last is 2$"):
        choose(rows, [range(3, 4)], "a.md")


@pytest.mark.parametrize("text", ["0", "5-2", "a", "", "1-2-3", "-3"])
def test_bad_chapters(text: str) -> None:
    with pytest.raises(ConfigError, match="--chapters"):
        parse_chapters(text)
