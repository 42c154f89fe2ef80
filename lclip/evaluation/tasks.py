"""The tasks: what is asked of every item, in a table that an interrupted run goes on with; the figures."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bulk.asking import FAILED, Asker
from ..bulk.questions import Question
from ..bulk.results import GrowingTable
from ..checkpoints.fingerprint import fingerprint
from ..data.items import LatentItem
from ..model.latent_clip import LatentCLIP
from ..statistics import wilson
from .classes import Classes
from .gallery import Gallery
from .items import Inputs, of_classes, with_captions
from .published import RETRIEVAL, beside_imagenet
from .questions import EmbedWithCaption, Rank
from .results import Row, TaskResult
from .workers import Crew, Parts, ask_parts, show_first

RECALLS = (1, 5, 10)
CHUNK = 1024


@dataclass(frozen=True)
class Setup:
    """What all tasks of a run share."""

    model: LatentCLIP
    inputs: Inputs
    folder: Path
    """Of the results."""
    batch: int = 32
    size_rule: str | None = None
    seed: int = 0
    overwrite: bool = False
    progress: Callable[[int], None] = lambda number: None
    """Called with so many items more."""
    crew: Crew | None = None
    """Several workers, where they ask."""

    def about(self) -> dict[str, Any]:
        """What the figures hang on."""
        encoder, config = self.inputs.encoder, self.model.config
        return {
            "model": fingerprint(self.model),
            "latent_space": config.latent_space,
            "native_size": config.native_size,
            "size_rule": self.size_rule or self.model.size_rule,
            "inputs": [path.name for path in self.inputs.paths],
            "latent_key": self.inputs.latent_key,
            "vae": encoder and encoder.vae,
            "picture_side": encoder and encoder.side,
            "seed": self.seed,
        }

    def versions(self) -> dict[str, str]:
        """Of what computed."""
        return {"python": platform.python_version(), "torch": torch.__version__, "device": self._device()}

    def _device(self) -> str:
        return str(next(self.model.parameters()).device)


def ask(
    setup: Setup,
    question: Question,
    suffix: str,
    texts: Callable[[Iterable[LatentItem]], Iterator[LatentItem]],
) -> tuple[GrowingTable | Parts, Gallery]:
    """Ask of every item that the table does not have yet. texts: gives the items their texts."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    settings = {"format": "latent-clip-evaluation", "version": 1, "task": question.name, **setup.about()}
    settings |= question.settings()
    path = setup.folder / f"{question.name}{suffix}"
    gallery = Gallery(setup.folder / f"{question.name}-pictures")
    if setup.crew is not None and setup.crew.several:
        tables = setup.folder / f"{question.name}-tables"
        rest = (settings, setup.batch, setup.overwrite, setup.progress)
        parts = ask_parts(setup.crew, question, setup.inputs, texts, tables, *rest)
        show_first(setup.inputs, gallery)
        return parts, gallery
    table = GrowingTable(path, question, settings, setup.overwrite)
    asker = Asker(question, setup.model, setup.batch)
    setup.progress(table.old)
    try:
        for block in asker.blocks(texts(setup.inputs.items(gallery, table.has))):
            table.write(block)
            setup.progress(len(block))
    finally:
        table.close()
    return table, gallery


def imagenet(setup: Setup, classes: Classes) -> TaskResult:
    """Zero-shot classification: the share of items whose class comes first, or among five."""
    question = Rank(classes.ids, classes.texts, classes.templates, setup.size_rule)
    table, gallery = ask(setup, question, ".csv", partial(of_classes, classes=classes.by_name))
    ranks = [int(row["rank"]) for row in table.rows() if not row["error"]]
    if not ranks:
        raise ValueError(_none_left("item", table))
    paper = beside_imagenet(setup.model, classes.imagenet, len(ranks))
    rows = [
        Row(name, wilson(sum(rank <= k for rank in ranks), len(ranks)), *paper.of(name))
        for name, k in (("top-1", 1), ("top-5", 5))
        if k < len(classes.ids)  # among five of five everything is
    ]
    about = {
        **setup.about(),
        **setup.versions(),
        "classes": len(classes.ids),
        "templates": len(classes.templates),
    }
    title = f"Zero-shot classification, {len(classes.ids)} classes"
    shown = gallery.shown(below(setup))
    return TaskResult("imagenet", title, about, rows, notes_of(table), shown, paper.said)


def retrieval(setup: Setup, captions: Mapping[str, str] | None = None, ways: int | None = None) -> TaskResult:
    """Items find their captions, and captions their items. ways: among so many at a time; None: among all.

    Ways are drawn with the seed, and every group has other items; items that are left over are not asked.
    """
    question = EmbedWithCaption(setup.size_rule)
    table, gallery = ask(setup, question, ".jsonl", partial(with_captions, captions=captions))
    rows = [row for row in table.rows() if not row["error"]]
    if len(rows) < max(2, ways or 2):
        raise ValueError(
            f"{len(rows)} items to retrieve, expected at least {max(2, ways or 2)}. {first_problem(table)}"
        )
    texts = [str(row["caption"]) for row in rows]
    images = torch.tensor([row["embedding"] for row in rows], dtype=torch.float32)
    numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
    if len(numbers) < 2:
        raise ValueError(
            f"all {len(rows)} items have the caption {texts[0]!r:.60}, which each of them would find; "
            "expected captions that differ"
        )
    with torch.inference_mode():
        words = setup.model.encode_text(list(numbers)).cpu()
    own = torch.tensor([numbers[text] for text in texts])
    groups = _groups(len(rows), ways, setup.seed)
    found = []
    for name, queries, gallery_of in (
        ("latents to text", images, words[own]),
        ("text to latents", words[own], images),
    ):
        ranks = torch.cat([ranks_of_own(queries[g], gallery_of[g], own[g]) for g in groups])
        found += [
            Row(f"{name}, recall at {k}", wilson(int((ranks <= k).sum()), len(ranks)))
            for k in RECALLS
            if k < (ways or len(rows))
        ]
    about = {**setup.about(), **setup.versions(), "ways": ways or len(rows), "captions": len(numbers)}
    title = f"Retrieval, {ways or len(rows)}-way"
    shown = gallery.shown(below(setup))
    return TaskResult("retrieval", title, about, found, notes_of(table), shown, RETRIEVAL)


def ranks_of_own(queries: Tensor, gallery: Tensor, own: Tensor) -> Tensor:
    """At which place each query [N, D] finds its own row of the gallery [N, D], 1 the first. own: [N].

    Rows of the same `own` are as good as each other. A tie with another counts against.
    """
    ranks = []
    for first in range(0, len(queries), CHUNK):
        part = slice(first, first + CHUNK)
        cosine = queries[part] @ gallery.T
        same = own[part, None] == own[None]
        best = cosine.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
        ranks.append(1 + ((cosine >= best) & ~same).sum(1))
    return torch.cat(ranks)


def _groups(number: int, ways: int | None, seed: int) -> list[Tensor]:
    if ways is None:
        return [torch.arange(number)]
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    return list(order[: number // ways * ways].split(ways))


def notes_of(table: GrowingTable | Parts) -> list[str]:
    """That some items are in no figure, where it is so."""
    failed = table.tally.counts[FAILED]
    return (
        [f"{failed} items could not be read, and are in no figure. {first_problem(table)}"] if failed else []
    )


def first_problem(table: GrowingTable | Parts) -> str:
    """In words what was wrong with the first item that could not be read."""
    first = table.tally.first.get(FAILED)
    return f"The first: {first}" if first else "There was nothing to read"


def _none_left(what: str, table: GrowingTable | Parts) -> str:
    return f"no {what} could be evaluated. {first_problem(table)}"


def below(setup: Setup) -> str:
    """What is said below the pictures on the page."""
    return "as it was encoded" if setup.inputs.encoder else "three channels, not decoded"
