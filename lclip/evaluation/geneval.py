"""GenEval and T2I-CompBench: pictures as their own scorers read them, and our scores beside.

GenEval (arXiv 2310.11513) reads FOLDER/00000/metadata.jsonl and FOLDER/00000/samples/00000.png;
T2I-CompBench (arXiv 2307.06350) reads FOLDER/samples/PROMPT_000000.png. Neither scorer is called here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..statistics import Interval, bootstrap, wilson
from .idle import idle
from .making import Generation, Layout, Made, make_all, without_latents
from .prompts import Prompt
from .published import COMPBENCH, OVERALL, TAGS, Beside, beside_geneval
from .results import Row, TaskResult
from .shown import pictures_of

TITLES = {"geneval": "GenEval", "compbench": "T2I-CompBench"}
RESULTS = "results.jsonl"
BLIND = "{count} pictures came without latents, and have no cosine"
"""Where GenEval's own scorer is asked to write, beside the pictures of a variant."""


def geneval(run: Generation) -> TaskResult:
    """Make the pictures, and say how well each variant fits its prompts."""
    task = run.batch.prompts.kind
    journal = run.journal(task)
    layout = _geneval_layout(run) if task == "geneval" else _compbench_layout(run)
    make_all(run.batch, run.maker, journal, layout, _scored(run), run.progress)
    rows = run.made(journal)
    paper = beside_geneval(run) if task == "geneval" else Beside(COMPBENCH)
    figures = [row for name in run.batch.variants for row in _figures(run, name, rows, paper)]
    notes = [*run.failures(journal), *without_latents(rows, "cosine", BLIND)]
    if not figures:
        raise ValueError(notes[0] if notes else "there is nothing to score: no variant has latents")
    title = f"{TITLES[task]}: {run.batch.extent}"
    shown = pictures_of(run.batch, journal, layout)
    remarks = [*idle(run), *run.beyond(journal)]
    return TaskResult(task, title, run.told(), figures, notes, shown, paper.said, remarks)


def _scored(run: Generation) -> Callable[[Prompt, Made], Mapping[str, Any]]:
    texts: dict[str, torch.Tensor] = {}

    def score(prompt: Prompt, made: Made) -> Mapping[str, Any]:
        row: dict[str, Any] = {"groups": list(prompt.groups), "cosine": None}
        if made.latents is not None:
            with torch.inference_mode():
                if prompt.text not in texts:
                    texts[prompt.text] = run.model.encode_text(prompt.text)
                row["cosine"] = float(
                    (run.model.encode_latents(made.latents[None]) @ texts[prompt.text].T)[0, 0]
                )
        if run.check is not None:
            row["correct"] = run.check(prompt, made.picture)
        return row

    return score


def _figures(
    run: Generation, name: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], paper: Beside
) -> list[Row]:
    plain = {_place(row): row for row in rows.get(run.batch.variants[0], ())}
    own = [row for row in rows[name] if row.get("cosine") is not None]
    found = []
    if own:
        groups = [row["prompt"] for row in own]
        found.append(
            Row(
                f"{name}: cosine of picture and prompt",
                bootstrap([r["cosine"] for r in own], groups),
                share=False,
            )
        )
    pairs = [
        (row, plain[_place(row)]) for row in own if _place(row) in plain and name != run.batch.variants[0]
    ]
    pairs = [(row, other) for row, other in pairs if other.get("cosine") is not None]
    if pairs:
        better = sum(row["cosine"] > other["cosine"] for row, other in pairs)
        what = f"{name}: fits better than {run.batch.variants[0]} of the same seed"
        found.append(Row(what, wilson(better, len(pairs))))
    judged = [row for row in rows[name] if row.get("correct") is not None]
    if judged:
        share = wilson(sum(bool(row["correct"]) for row in judged), len(judged))
        found.append(Row(f"{name}: shows the prompt, by the oracle of pixels", share))
    return found + _of_own_scorer(run, name, paper)


def _of_own_scorer(run: Generation, name: str, paper: Beside) -> list[Row]:
    """What GenEval's own scorer has written beside the pictures: the mean over tags of the shares correct."""
    path = run.folder / run.batch.prompts.kind / name / RESULTS
    if run.batch.prompts.kind != "geneval" or not path.is_file():
        return []
    try:
        found = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        asked = [entry for entry in found if _is_asked(run, entry)]
        correct = [(str(entry["tag"]), float(bool(entry["correct"]))) for entry in asked]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what GenEval's scorer writes: {error}. Take it away") from error
    told = {OVERALL: _over_tags(correct)} if correct else {}
    for tag in dict.fromkeys(tag for tag, _ in correct):
        shares = [value for other, value in correct if other == tag]
        told[tag] = wilson(sum(shares), len(shares))
    whole = Counter(tag for tag, _ in correct) == {tag: n * run.batch.samples for tag, n in TAGS.items()}
    known = paper if whole else Beside("")
    return [
        Row(f"{name}: GenEval's scorer, {tag}", share, *known.of(f"{name} {tag}"))
        for tag, share in told.items()
    ]


def _is_asked(run: Generation, entry: Mapping[str, Any]) -> bool:
    """Whether a line of the scorer is of a prompt of this run; the folder may hold others'."""
    place = re.search(r"([0-9]+)[/\\]samples[/\\][^/\\]+$", str(entry.get("filename", "")))
    return place is None or int(place[1]) in run.batch.places


def _over_tags(correct: Sequence[tuple[str, float]]) -> Interval:
    """GenEval's overall figure: every tag counts as much. The interval takes the tags' variances together."""
    tags = dict.fromkeys(tag for tag, _ in correct)
    shares = {tag: [value for other, value in correct if other == tag] for tag in tags}
    means = {tag: float(np.mean(values)) for tag, values in shares.items()}
    value = float(np.mean(list(means.values())))
    spread = sum(m * (1 - m) / len(shares[tag]) for tag, m in means.items()) ** 0.5 / len(tags)
    return Interval(value, max(0.0, value - 1.96 * spread), min(1.0, value + 1.96 * spread), len(correct))


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["prompt"], row["sample"]


def _geneval_layout(run: Generation) -> Layout:
    root = run.folder / "geneval"
    for variant in run.batch.variants:
        for prompt in run.batch.prompts.prompts:
            folder = root / variant / f"{prompt.place:05}"
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(prompt.meta or {"prompt": prompt.text}, ensure_ascii=False)
            (folder / "metadata.jsonl").write_text(text, encoding="utf-8")

    return lambda variant, prompt, sample: (
        root / variant / f"{prompt.place:05}" / "samples" / f"{sample:05}.png"
    )


def _compbench_layout(run: Generation) -> Layout:
    def place(variant: str, prompt: Prompt, sample: int) -> Path:
        name = re.sub(r'[/\\:*?"<>|\x00-\x1f]', " ", prompt.text)
        name = name.encode()[:180].decode("utf-8", "ignore").rstrip(" .")  # file systems count bytes
        number = prompt.place * run.batch.samples + sample
        return run.folder / "compbench" / variant / "samples" / f"{name}_{number:06}.png"

    return place
