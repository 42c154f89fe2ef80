"""Shares of concepts in pictures or latents that are there already, whoever made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

from .bias import Asked, figures_of
from .items import with_captions
from .published import BIAS
from .questions import Chances
from .results import Row, TaskResult
from .tasks import Setup, ask, below, first_problem, notes_of
from .versions import list_sha256

MOST = 100
"""So many prompts have rows of their own, at most."""


def bias_of(setup: Setup, asked: Asked, captions: Mapping[str, str] | None = None) -> TaskResult:
    """Count what items show: over all, and for each prompt that stands beside several of them.

    captions: the prompt of an item by file name or key, in place of the text beside it. An item without a
    prompt counts over all. ValueError where nothing can be read.
    """
    question = Chances(tuple(map(tuple, asked.questions)), setup.size_rule)
    found = ask(setup, question, ".jsonl", partial(with_captions, captions=captions), captions)
    groups: dict[str, list[list[Sequence[float]]]] = defaultdict(list)
    every = []
    for row in found.rows:
        every.append(_by_question(asked, row["chances"]))
        groups[str(row["caption"] or "")].append(every[-1])
    if not every:
        raise ValueError(f"there is nothing to count. {first_problem(found)}")
    prompts = sorted(str(row["caption"] or "") for row in found.rows)
    hung = {**asked.told(), "prompts_sha256": list_sha256(prompts)}
    about = {**setup.about(), **setup.versions(), **hung}
    title = f"Shares of concepts: {len(every)} items that were given"
    rows = [*figures_of(asked, "all", every), *_of_prompts(asked, groups)]
    return TaskResult("bias", title, about, rows, notes_of(found), found.gallery.shown(below(setup)), BIAS)


def _of_prompts(asked: Asked, groups: Mapping[str, Sequence[Any]]) -> list[Row]:
    named = {prompt: own for prompt, own in groups.items() if prompt and len(own) > 1}
    if len(groups) < 2 or len(named) > MOST:
        return []
    return [row for prompt, own in named.items() for row in figures_of(asked, prompt, own)]


def _by_question(asked: Asked, chances: Sequence[float]) -> list[Sequence[float]]:
    """A row of the table, cut into the probabilities of each question."""
    ends = accumulate((len(names) for names in asked.questions), initial=0)
    return [chances[start:end] for start, end in pairwise(ends)]
