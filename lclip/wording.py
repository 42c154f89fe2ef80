"""The words of reports: English, or what a program with readers of other languages makes of it."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[..., str]
"""English words with {names}, and the values by those names -> the words that the reader gets."""


def english(words: str, **values: object) -> str:
    """The words as they stand, with the values at their places."""
    return words.format(**values)
