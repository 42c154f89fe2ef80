"""Words for people of any language: reports in theirs, and what they type on keyboards of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

WIDE = str.maketrans("：｜／％＃＊．", ":|/%#*.")
"""Signs of Chinese and Japanese keyboards, and those that they stand for."""

Say = Callable[..., str]
"""English words with {names}, and the values by those names -> the words that the reader gets."""


def english(words: str, **values: object) -> str:
    """The words as they stand, with the values at their places."""
    return words.format(**values)


def typed_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text that somebody typed, numbered from 1, those that say nothing left out.

    Without blanks around them, and with plain signs in the place of wide ones.
    """
    for number, line in enumerate(text.translate(WIDE).splitlines(), 1):
        if line.strip():
            yield number, line.strip()
