"""The tasks: what is asked of every item, in a table that an interrupted run goes on with; the figures."""

from __future__ import annotations

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
from ..data.tally import Tally
from ..latents.worlds import ENCODERS
from ..model.latent_clip import LatentCLIP
from ..statistics import wilson
from .classes import Classes
from .gallery import Gallery
from .items import Inputs, digest_of, of_classes, with_captions
from .published import RETRIEVAL, beside_imagenet
from .questions import EmbedWithCaption, Rank
from .results import Row, TaskResult
from .vaes import vae_hash
from .versions import list_sha256, versions
from .workers import Crew, ask_parts, show_first

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
            "vae_hash": encoder and vae_hash(encoder.vae),
            "picture_side": encoder and encoder.side,
            "seed": self.seed,
        }

    def versions(self) -> dict[str, str]:
        """Of what computed."""
        encoder = self.inputs.encoder
        packages = () if encoder is None or encoder.vae in ENCODERS else ("diffusers",)
        return {**versions(*packages), "device": self._device()}

    def _device(self) -> str:
        return str(next(self.model.parameters()).device)


@dataclass(frozen=True)
class Answers:
    """What is known of the items that are given now, without what the table has of others."""

    rows: list[dict[str, Any]]
    """Of those that could be read, by file and place, in whatever order they were asked."""
    tally: Tally
    gallery: Gallery

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]], tally: Tally, gallery: Gallery) -> Answers:
        """From all rows."""
        read = (row for row in rows if not row["error"])
        return cls(sorted(read, key=lambda row: (row["file"], row["item"] or "")), tally, gallery)


def ask(
    setup: Setup,
    question: Question,
    suffix: str,
    texts: Callable[[Iterable[LatentItem]], Iterator[LatentItem]],
    captions: Mapping[str, str] | None = None,
) -> Answers:
    """Ask of every item that the table does not have yet. texts: gives the items their texts.

    captions: those of a table, if the texts are from one.
    """
    setup.folder.mkdir(parents=True, exist_ok=True)
    settings = {"format": "latent-clip-evaluation", "version": 1, "task": question.name, **setup.about()}
    settings |= question.settings()
    if captions is not None:
        settings["captions"] = digest_of(captions)
    path = setup.folder / f"{question.name}{suffix}"
    gallery = Gallery(setup.folder / f"{question.name}-pictures")
    if setup.crew is not None and setup.crew.several:
        tables = setup.folder / f"{question.name}-tables"
        rest = (settings, setup.batch, setup.overwrite, setup.progress)
        parts = ask_parts(setup.crew, question, setup.inputs, texts, tables, *rest)
        if setup.overwrite or parts.changed:
            gallery.clear()
        show_first(setup.inputs, gallery)
        return Answers.of(parts.rows(), parts.tally, gallery)
    table = GrowingTable(path, question, settings, setup.overwrite)
    if not table.old:
        gallery.clear()
    asker = Asker(question, setup.model, setup.batch)
    setup.progress(table.old)
    try:
        for block in asker.blocks(texts(setup.inputs.items(gallery, table.has))):
            table.write(block)
            setup.progress(len(block))
    finally:
        table.close()
    tally, known = table.tally_given()
    if table.changed or known < table.old:  # it may show what is not among the items any more
        gallery.clear()
        show_first(setup.inputs, gallery)
    return Answers.of(table.rows_given(), tally, gallery)


def imagenet(setup: Setup, classes: Classes) -> TaskResult:
    """Zero-shot classification: the share of items whose class comes first, or among five."""
    question = Rank(classes.ids, classes.texts, classes.templates, setup.size_rule)
    found = ask(setup, question, ".csv", partial(of_classes, classes=classes.by_name))
    ranks = [int(row["rank"]) for row in found.rows]
    if not ranks:
        raise ValueError(f"no item could be evaluated. {first_problem(found)}")
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
        "classes_sha256": list_sha256(zip(classes.ids, classes.texts, strict=True)),
        "templates": len(classes.templates),
        "templates_sha256": list_sha256(classes.templates),
    }
    title = f"Zero-shot classification, {len(classes.ids)} classes"
    shown, remarks = found.gallery.shown(below(setup)), _without_items(found, classes)
    return TaskResult("imagenet", title, about, rows, notes_of(found), shown, paper.said, remarks)


def _without_items(found: Answers, classes: Classes) -> list[str]:
    """That classes have no item that could be read, in words; nothing where all have one."""
    seen = {row["class"] for row in found.rows}
    empty = [name for name in classes.ids if name not in seen]
    if not empty:
        return []
    return [
        f"of {len(classes.ids)} classes {len(empty)} have no item here, such as {empty[0]}: the figures are "
        "of the others, among the names of all"
    ]


def retrieval(setup: Setup, captions: Mapping[str, str] | None = None, ways: int | None = None) -> TaskResult:
    """Items find their captions, and captions their items. ways: among so many at a time; None: among all.

    Ways are drawn with the seed, and every group has other items; items that are left over are not asked.
    """
    question = EmbedWithCaption(setup.size_rule)
    if ways is not None and ways < 2:
        raise ValueError(f"--ways is {ways}; expected at least 2: one alone would always be found")
    answers = ask(setup, question, ".jsonl", partial(with_captions, captions=captions), captions)
    rows = answers.rows
    if len(rows) < max(2, ways or 2):
        raise ValueError(
            f"{len(rows)} items to retrieve, expected at least {max(2, ways or 2)}. {first_problem(answers)}"
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
    told = {
        "ways": ways or len(rows),
        "captions": len(numbers),
        "captions_sha256": list_sha256(sorted(texts)),
    }
    about = {**setup.about(), **setup.versions(), **told}
    title = f"Retrieval, {ways or len(rows)}-way"
    shown = answers.gallery.shown(below(setup))
    return TaskResult("retrieval", title, about, found, notes_of(answers), shown, RETRIEVAL)


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


def notes_of(found: Answers) -> list[str]:
    """That some items are in no figure, where it is so."""
    failed = found.tally.counts[FAILED]
    return (
        [f"{failed} items could not be read, and are in no figure. {first_problem(found)}"] if failed else []
    )


def first_problem(found: Answers) -> str:
    """In words what was wrong with the first item that could not be read."""
    if first := found.tally.first.get(FAILED):
        return f"The first that could not be read: {first}"
    return "All that was there could be read" if found.rows else "There was nothing to read"


def below(setup: Setup) -> str:
    """What is said below the pictures on the page."""
    return "as it was encoded" if setup.inputs.encoder else "three channels, not decoded"
