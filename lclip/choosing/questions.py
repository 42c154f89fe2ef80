"""Questions about shares as people write them: concepts, targets and labels, from lines of text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..wording import typed_lines

TOLERANCE = 0.02
"""How far from a target, in total variation, a balanced choice may be."""
REPEATED = re.compile(r"(\d+)\s*\*\s*(.+)")
"""Such as "10 * a cat", for ten lines."""


def questions_of(text: str) -> list[list[str]]:
    """The concepts of every question: one a line, its concepts parted by |; or one concept a line, where
    there is no |. ValueError where a question has fewer than two."""
    lines = _lines(text)
    rows = [line.split("|") for line in lines] if any("|" in line for line in lines) else [lines]
    questions = [[name.strip() for name in row if name.strip()] for row in rows]
    short = next((row for row, names in zip(rows, questions, strict=True) if len(names) < 2), None)
    if short is not None or not questions:
        line = "|".join(short or [])
        raise ValueError(
            f"concepts has the line {line!r}; expected two concepts or more for each question, such as "
            "a cat | a dog"
        )
    return questions


def questions_in(texts: Sequence[str]) -> list[list[str]]:
    """The concepts of every question in a list of texts: each has questions of its own, or one concept."""
    texts = ["\n".join(_lines(text)) for text in dict.fromkeys(texts)]
    if all("|" in text or "\n" in text for text in texts):
        return [names for text in texts for names in questions_of(text)]
    return questions_of("\n".join(texts))


def targets_of(text: str, number: int) -> list[list[float] | None]:
    """The target of each of so many questions: a line of shares for all, or a line for each; None, which is
    uniform, for an empty text. ValueError for what is no number, or for other lines."""
    lines = _lines(text)
    if len(lines) not in (0, 1, number):
        one = "one line, its shares parted by |, such as 0.5 | 0.5"
        several = f"one line for all {number} questions, or one each, with shares parted by |"
        raise ValueError(f"target has {len(lines)} lines; expected {one if number == 1 else several}")
    try:
        rows = [[float(part) for part in line.split("|")] for line in lines]
    except ValueError:
        raise ValueError(f"target is {text!r}; expected shares parted by |, such as 0.5 | 0.5") from None
    return list(rows if len(rows) > 1 else (rows or [None]) * number)


def labels_of(text: str, questions: Sequence[Sequence[str]], number: int) -> list[list[int]]:
    """For every question what each of so many examples shows, by place, from a line for each example.

    "10 * a cat" stands for ten lines. With several questions a line has a label for each, parted by |.
    ValueError for labels that are no concepts, or for another number of lines.
    """
    counted = _counted(text)
    count = sum(times for times, _ in counted)
    if count != number:
        raise ValueError(
            f"there are {count} labels for {number} examples; expected a line for each, where 10 * a cat "
            "stands for ten lines"
        )
    rows = [[part.strip() for part in line.split("|")] for times, line in counted for _ in range(times)]
    wrong = [row for row in rows if len(row) != len(questions)]
    if wrong:
        raise ValueError(
            f"the label {' | '.join(wrong[0])!r} has {len(wrong[0])} parts; expected one for each of the "
            f"{len(questions)} questions, parted by |"
        )
    return [[_place(row[column], names) for row in rows] for column, names in enumerate(questions)]


def _lines(text: str) -> list[str]:
    return [line for _, line in typed_lines(text)]


def _counted(text: str) -> list[tuple[int, str]]:
    """Every line with how often it stands: not written out before that is known to be no more than wanted."""
    found = [(line, REPEATED.fullmatch(line)) for line in _lines(text)]
    return [(int(match[1]), match[2]) if match else (1, line) for line, match in found]


def _place(label: str, names: Sequence[str]) -> int:
    if label not in names:
        raise ValueError(f"the label {label!r} is no concept; expected one of {', '.join(names)}")
    return list(names).index(label)
