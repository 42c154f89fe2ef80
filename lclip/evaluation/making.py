"""Pictures of prompts by whatever makes them, in several variants, one by one and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from ..checkpoints.atomic import atomic_file
from ..latents.items import item_seed, sample_seed
from ..model.latent_clip import LatentCLIP
from .journal import Journal
from .prompts import Prompt, PromptList

GREY = "#808080"
"""Of pictures that stand in for what is not shown."""
IN_A_ROW = 5
"""Failures after which a maker is taken to be broken."""


@dataclass(frozen=True)
class Made:
    """One picture."""

    picture: Image.Image
    latents: Tensor | None = None
    """[C, h, w] raw latents, where the maker shows them."""
    blocked: bool = False
    """Whether it is the grey that stands in for a picture that a guard or gate stopped."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What else is kept in its row."""


class Maker(Protocol):
    """Makes pictures of prompts."""

    @property
    def variants(self) -> Sequence[str]:
        """The ways in which it can, the plain one first."""
        ...

    def about(self) -> dict[str, Any]:
        """All that can change a picture: versions, hashes, settings; of JSON's types."""
        ...

    def make(self, variant: str, prompt: str, seed: int) -> Made:
        """A picture; the same for the same seed. ValueError or RuntimeError where this one cannot be made,
        OSError where none can.
        """
        ...


Score = Callable[[Prompt, Made], Mapping[str, Any]]
"""What is kept of a picture beside its name."""
Check = Callable[[Prompt, Image.Image], bool]
"""Whether a picture shows the prompt, by a judge of pixels."""
Layout = Callable[[str, Prompt, int], Path]
"""Where the picture of a variant, a prompt and a sample lies."""


@dataclass(frozen=True)
class Batch:
    """All the pictures of a run."""

    prompts: PromptList
    variants: tuple[str, ...]
    samples: int
    seed: int

    def seed_of(self, prompt: Prompt, sample: int) -> int:
        """The same in every variant. The first sample's is the list's own where it has one; others are
        hashes, so that runs of neighbouring seeds share nothing."""
        own = item_seed(self.seed, prompt.place) if prompt.seed is None else prompt.seed
        return sample_seed(own, sample)

    def settings(self) -> dict[str, Any]:
        """What a resumed run must agree with. More variants may come later."""
        seeds = {"samples": self.samples, "seed": self.seed, "seeds": "hashed"}
        return {"prompts_sha256": self.prompts.sha256, **seeds}

    @cached_property
    def places(self) -> frozenset[int]:
        """Of the prompts, in their whole list."""
        return frozenset(prompt.place for prompt in self.prompts.prompts)

    @property
    def extent(self) -> str:
        """How many prompts, and pictures of each, for a title."""
        pictures = "1 picture" if self.samples == 1 else f"{self.samples} pictures"
        return f"{len(self.prompts.prompts)} prompts, {pictures} each"

    def __iter__(self) -> Iterator[tuple[str, Prompt, int]]:
        for variant in self.variants:
            for prompt in self.prompts.prompts:
                for sample in range(self.samples):
                    yield variant, prompt, sample

    def __len__(self) -> int:
        return len(self.variants) * len(self.prompts.prompts) * self.samples


@dataclass(frozen=True)
class Generation:
    """What the tasks share that make pictures."""

    model: LatentCLIP
    maker: Maker
    batch: Batch
    folder: Path
    """Of the results."""
    about: Mapping[str, Any]
    check: Check | None = None
    overwrite: bool = False
    progress: Callable[[int], None] = lambda number: None

    def journal(self, task: str, **more: Any) -> Journal:
        """The table of a task, with what its rows hang on."""
        settings = {"format": "latent-clip-evaluation", "version": 1, "task": task, **self.about, **more}
        settings |= {**self.batch.settings(), **self.maker.about()}
        return Journal(self.folder / f"{task}.jsonl", settings, self.overwrite)

    def told(self, **more: Any) -> dict[str, Any]:
        """All that the figures hang on."""
        hung = {**self.batch.settings(), **self.maker.about(), "variants": list(self.batch.variants)}
        return {**self.about, **more, **hung, "prompts": len(self.batch.prompts.prompts)}

    def rows(self, journal: Journal, variant: str) -> list[dict[str, Any]]:
        """Those of a variant that this run asks for; the table may have more, of a run without its limit."""
        return [row for row in journal.rows(variant) if row["prompt"] in self.batch.places]

    def beyond(self, journal: Journal) -> list[str]:
        """That the folder holds pictures of prompts that this run does not ask for, in words."""
        others = {
            name: sum(row["prompt"] not in self.batch.places for row in journal.rows(name))
            for name in self.batch.variants
        }
        return [
            f"{name}: pictures of other prompts lie in the folder too ({count}), of a run with another "
            "--limit. No figure here counts them, and the page shows none; what else reads the folder may"
            for name, count in others.items()
            if count
        ]

    def made(self, journal: Journal) -> dict[str, list[dict[str, Any]]]:
        """The rows of every variant, but for pictures that could not be made."""
        return {
            name: [row for row in self.rows(journal, name) if not row.get("error")]
            for name in self.batch.variants
        }

    def failures(self, journal: Journal) -> list[str]:
        """In words how many could not be made; nothing where all were."""
        failed = [row for name in self.batch.variants for row in self.rows(journal, name) if row.get("error")]
        return (
            [f"{len(failed)} pictures could not be made. The first: {failed[0]['error']}"] if failed else []
        )


def without_latents(made: Mapping[str, Sequence[Mapping[str, Any]]], column: str, told: str) -> list[str]:
    """Of which variants pictures came without latents, so that a column is empty, in words.

    made: the rows by variant. told: what that means, with {count} at the place of the number.
    """
    counts = {name: sum(row.get(column) is None for row in rows) for name, rows in made.items()}
    return [
        f"{name}: {told.format(count=count)}. Give the workflow a SaveLatent beside its SaveImage"
        for name, count in counts.items()
        if count
    ]


def make_all(
    batch: Batch,
    maker: Maker,
    journal: Journal,
    layout: Layout,
    score: Score,
    progress: Callable[[int], None] = lambda number: None,
) -> None:
    """Make every picture that is not there yet, and keep what is scored of it.

    A picture that cannot be made is a row with an error, and is tried again by the next run. RuntimeError
    after several in a row.
    """
    failed = 0
    for variant, prompt, sample in batch:
        path = layout(variant, prompt, sample)
        if not (journal.done(variant, prompt.place, sample) and path.exists()):
            row = {"variant": variant, "prompt": prompt.place, "sample": sample}
            row |= {"seed": batch.seed_of(prompt, sample), "text": prompt.text}
            try:
                made = maker.make(variant, prompt.text, row["seed"])
                row |= {"blocked": made.blocked, **score(prompt, made), **made.told}
                save_picture(made.picture, path)
                failed = 0
            except (ValueError, RuntimeError) as error:
                failed += 1
                row["error"] = " ".join(str(error).split())[:300] or type(error).__name__
            journal.add(row)
            if failed == IN_A_ROW:
                raise ValueError(
                    f"{IN_A_ROW} pictures in a row could not be made ({variant}); the last: {row['error']}. "
                    "What was made is kept, and the same command goes on"
                )
        progress(1)


def save_picture(picture: Image.Image, path: Path) -> None:
    """As PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        picture.save(temporary, format="PNG")


def check_variants(wanted: Iterable[str], maker: Maker) -> tuple[str, ...]:
    """The variants asked for, each once; all of the maker's for none. ValueError for one that it has not."""
    wanted = tuple(dict.fromkeys(wanted)) or tuple(maker.variants)
    unknown = [name for name in wanted if name not in maker.variants]
    if unknown:
        raise ValueError(f"there is no variant {unknown[0]!r}; expected {', '.join(maker.variants)}")
    return wanted
