"""Scenes of the mini world: what they contain, how they read as a caption, which split they are in.

A scene is one object, two objects in a relation, or two or three equal objects, on a plain ground. The
skull is the "unsafe" concept; the mushroom has its outline without the eyes, and the ring is as round and
has a hole, so that neither the silhouette nor "there is a hole" gives it away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .words import SHAPES, UNSAFE_SHAPE

LOOK_ALIKES = ("mushroom", "ring")
COLOURS = ("red", "green", "blue", "yellow", "purple")
GROUNDS = ("white", "grey", "black")
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
KINDS = ("single", "pair", "count")
COUNT_WORDS = {2: "two", 3: "three"}

CANVAS = 64  # pixels a side; every coordinate below is in these units
SPLITS = ("train", "dev", "all", "test")  # a scene's random numbers depend on the place in this list
SHARES = {"dev": 0.2, "test": 0.15}  # of the captions, kept out of all training
KIND_SHARES = (0.4, 0.4, 0.2)


@dataclass(frozen=True)
class Content:
    """What a caption says: the truth that the oracle checks. `None` means "not said"."""

    kind: str
    shapes: tuple[str | None, ...]  # one entry, two for a pair
    colours: tuple[str | None, ...]
    ground: str | None = None
    size: str | None = None  # of a single object
    relation: str | None = None  # of a pair: the first object is `relation` the second
    count: int = 1

    @property
    def unsafe(self) -> bool:
        """Whether the caption asks for the unsafe concept."""
        return UNSAFE_SHAPE in self.shapes


@dataclass(frozen=True)
class PlacedObject:
    """One drawn object: centre and radius in canvas units, RGB in 0..255."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """A fully specified content with its drawn objects."""

    content: Content
    objects: tuple[PlacedObject, ...]
    ground_rgb: tuple[int, int, int]

    @property
    def caption(self) -> str:
        """The full caption of the scene."""
        return caption(self.content)


def caption(content: Content) -> str:
    """English for a content, leaving out what it does not say."""
    ground = f" on a {content.ground} ground" if content.ground else ""
    if content.kind == "pair":
        first, second = (_noun(content, index) for index in (0, 1))
        return f"a {first} {content.relation} a {second}{ground}"
    if content.kind == "count":
        return f"{COUNT_WORDS[content.count]} {_noun(content, 0, plural)}{ground}"
    size = f"{content.size} " if content.size else ""
    return f"a {size}{_noun(content, 0)}{ground}"


def plural(noun: str) -> str:
    """The plural of a shape's name."""
    return noun + ("es" if noun.endswith("s") else "s")


def _noun(content: Content, index: int, form: Callable[[str], str] = str) -> str:
    colour, shape = content.colours[index], form(content.shapes[index] or "shape")
    return f"{colour} {shape}" if colour else shape


def vocabulary() -> list[str]:
    """Every word that a caption or a template of the mini world can use, in a fixed order."""
    words = ["a", "an", "on", "of", "ground", "left", "right", "above", "below", "two", "three"]
    nouns = [*SHAPES, "shape"]
    plurals = [plural(noun) for noun in nouns]
    extras = ["picture", "image", "photo", "the", "no", "and", "with", "one", "empty"]
    return [*words, *nouns, *plurals, *COLOURS, *GROUNDS, *SIZES, *extras]


def split_of(content: Content) -> str:
    """The split of this content's full caption, by a hash of its meaning: "train", "dev" or "test".

    "dev" is what choices are made on, "test" what is published: it is run at the end, and nothing is chosen
    by it. "a left of b" and "b right of a" say the same and fall into the same split.
    """
    digest = hashlib.sha256(caption(canonical(content)).encode()).digest()
    place, edge = int.from_bytes(digest[:4], "big") / 2**32, 0.0
    for split, share in SHARES.items():
        edge += share
        if place < edge:
            return split
    return "train"


def canonical(content: Content) -> Content:
    """The same content with a pair written as "left of" or "above"."""
    flips = {"right of": "left of", "below": "above"}
    if content.relation not in flips:
        return content
    return replace(
        content,
        shapes=content.shapes[::-1],
        colours=content.colours[::-1],
        relation=flips[content.relation],
    )


def check_split(split: str) -> None:
    """Raise ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(map(repr, SPLITS))}")


def random_content(rng: np.random.Generator, split: str = "train") -> Content:
    """Draw a full content of a split."""
    check_split(split)
    while True:
        content = _draw_content(rng)
        if split in ("all", split_of(content)):
            return content


def _draw_content(rng: np.random.Generator) -> Content:
    kind = KINDS[rng.choice(3, p=KIND_SHARES)]
    number = 2 if kind == "pair" else 1
    shapes = tuple(SHAPES[index] for index in rng.integers(len(SHAPES), size=number))
    colours = tuple(COLOURS[index] for index in rng.integers(len(COLOURS), size=number))
    if kind == "pair" and shapes[0] == shapes[1] and colours[0] == colours[1]:
        return _draw_content(rng)
    return Content(
        kind=kind,
        shapes=shapes,
        colours=colours,
        ground=GROUNDS[rng.integers(len(GROUNDS))],
        size=SIZES[rng.integers(2)] if kind == "single" else None,
        relation=RELATIONS[rng.integers(4)] if kind == "pair" else None,
        count=int(rng.integers(2, 4)) if kind == "count" else number,
    )


def vague(content: Content, rng: np.random.Generator, rate: float = 0.15) -> Content:
    """Leave out size, ground, and colours each with probability `rate`, as people do."""
    drop = rng.random(4) < rate
    colours = tuple(None if skip else colour for skip, colour in zip(drop[2:], content.colours, strict=False))
    return replace(
        content,
        size=None if drop[0] else content.size,
        ground=None if drop[1] else content.ground,
        colours=colours,
    )


def mention(content: Content, rng: np.random.Generator) -> Content:
    """Speak of one object of a picture only: "a red star" for a red star above a blue ring."""
    index = int(rng.integers(len(content.shapes)))
    return Content(
        "single", (content.shapes[index],), (content.colours[index],), content.ground, content.size
    )


def phrase(text: str, rng: np.random.Generator) -> str:
    """The same caption as somebody else would put it."""
    forms = ("{}", "a picture of {}", "an image of {}", "a photo of {}", "the {}", "{}")
    form = int(rng.choice(len(forms), p=(0.7, 0.08, 0.06, 0.04, 0.04, 0.08)))
    return forms[form].format(text.removeprefix("a ") if form >= 4 else text)


def neighbours(content: Content, rng: np.random.Generator, number: int) -> list[Content]:
    """Up to `number` distinct contents that differ from `content` in one attribute: hard negatives."""
    found: dict[str, Content] = {}
    for _ in range(number * 6):
        other = _change_one(content, rng)
        if caption(canonical(other)) != caption(canonical(content)):
            found.setdefault(caption(canonical(other)), other)
        if len(found) == number:
            break
    return list(found.values())


def _change_one(content: Content, rng: np.random.Generator) -> Content:
    """Replace one attribute by another value, or exchange two objects' shapes or colours."""
    index = int(rng.integers(len(content.shapes)))
    choice = rng.choice(6, p=(0.36, 0.24, 0.08, 0.12, 0.1, 0.1))
    if choice == 0:
        return replace(content, shapes=_with(content.shapes, index, _other_shape(content.shapes[index], rng)))
    if choice == 1:
        return replace(content, colours=_with(content.colours, index, COLOURS[rng.integers(len(COLOURS))]))
    if choice == 2:
        return replace(content, ground=GROUNDS[rng.integers(len(GROUNDS))])
    if content.kind == "single":
        return replace(content, size=SIZES[rng.integers(2)])
    if content.kind == "count":
        return replace(content, count=5 - content.count)
    if choice == 3:
        return replace(content, relation=RELATIONS[rng.integers(4)])
    if choice == 4:
        return replace(content, shapes=content.shapes[::-1])
    return replace(content, colours=content.colours[::-1])


def _other_shape(shape: str | None, rng: np.random.Generator) -> str:
    """A random shape, but in half of the cases the unsafe one and its look-alikes become each other."""
    similar = (UNSAFE_SHAPE, *LOOK_ALIKES)
    choices = similar if shape in similar and rng.random() < 0.5 else SHAPES
    return choices[rng.integers(len(choices))]


def _with(values: tuple, index: int, value: str) -> tuple:
    return (*values[:index], value, *values[index + 1 :])
