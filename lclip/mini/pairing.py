"""Which picture a noise belongs to: the fixed noise-to-picture pairing that the generator learns.

The low frequencies of the noise choose one of two layouts, and they argue with the words: each attribute
takes the value with the highest score, a projection of the noise plus a bonus for the value that the caption
names (the Gumbel-max trick with normal noise). So the wrong picture is always a few steps of noise away from
the right one, and what the caption leaves open is the noise's to choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from .drawing import LAYOUT_FACTORS, layout
from .scenes import COLOURS, GROUNDS, RELATIONS, SHAPES, SIZES, Content, Scene, canonical

GRID, CHANNELS = 8, 4
FREQUENCIES = 3  # a side: 3 x 3 cosines of 4 channels give 36 projections, all used
BONUS = {"shape": 3.0, "colour": 2.7, "ground": 3.5, "size": 3.0, "relation": 3.5}
ATTRIBUTES = (
    ("shape", SHAPES),
    ("shape", SHAPES),
    ("colour", COLOURS),
    ("colour", COLOURS),
    ("ground", GROUNDS),
    ("size", SIZES),
    ("relation", RELATIONS),
)
# The generator's pictures have one of two layouts each: half the scenes' places would blur its shapes.
# Factors of x and y per object, None where the noise's sign decides.
LAYOUTS = {
    "single": (None, 0.5),
    "left of": (0.0, None, 1.0, None),
    "above": (None, 0.0, None, 1.0),
    2: (0.0, None, 1.0, None),
    3: (0.0, 1.0, 1.0, 1.0, None, 0.0),
}
FREE = -1  # in place of a value's index: not named, or without effect on the picture
TRIES = 64


@dataclass(frozen=True)
class Draw:
    """How a noise met a caption: indices of the named and of the chosen value per attribute, and the side
    that the layout went to.
    """

    named: tuple[int, ...]
    chosen: tuple[int, ...]
    side: bool


@cache
def cosine_basis() -> np.ndarray:
    """Orthonormal 2-D cosines, [9, 8, 8], lowest frequency first."""
    position = (np.arange(GRID) + 0.5) / GRID
    rows = np.stack([np.cos(np.pi * order * position) for order in range(FREQUENCIES)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = sorted(np.ndindex(FREQUENCIES, FREQUENCIES), key=lambda pair: (sum(pair), pair))
    return np.stack([np.outer(rows[i], rows[j]) for i, j in order]).astype(np.float32)


def projections(noise: np.ndarray) -> np.ndarray:
    """The low frequencies of noise [..., 4, 8, 8], as [..., 36]; standard normal when the noise is."""
    low = np.einsum("fhw,...chw->...fc", cosine_basis(), noise)
    return low.reshape(*low.shape[:-2], -1)


def with_projections(noise: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Noise [N, 4, 8, 8] with its low frequencies replaced by `wanted` [N, up to 36]."""
    difference = np.zeros((len(noise), FREQUENCIES**2 * CHANNELS), dtype=np.float32)
    difference[:, : wanted.shape[1]] = wanted - projections(noise)[:, : wanted.shape[1]]
    return noise + np.einsum("nfc,fhw->nchw", difference.reshape(len(noise), -1, CHANNELS), cosine_basis())


def paired_scene(content: Content, noise: np.ndarray, rng: np.random.Generator) -> Scene:
    """The scene that belongs to a caption's content and a noise [4, 8, 8]; `rng` only tints."""
    return _realise(content, noise, rng)[0]


def draw_pair(content: Content, noise: np.ndarray, rng: np.random.Generator) -> tuple[Scene, Draw]:
    """`paired_scene`, and what has to stay the same in a noise for the same scene."""
    scene, chosen, side = _realise(content, noise, rng)
    shown = _indices(scene.content)
    effective = tuple(value if seen != FREE else FREE for value, seen in zip(chosen, shown, strict=True))
    return scene, Draw(_indices(content), effective, side)


def _realise(content: Content, noise: np.ndarray, rng: np.random.Generator) -> tuple[Scene, list[int], bool]:
    values = projections(noise)
    side = bool(values[0] > 0)
    chosen, start = [], 1
    for (attribute, names), named in zip(ATTRIBUTES, _indices(content), strict=True):
        scores = values[start : start + len(names)].copy()
        start += len(names)
        if named != FREE:
            scores[named] += BONUS[attribute]
        chosen.append(int(scores.argmax()))
    number = len(content.shapes)
    seen = replace(
        content,
        shapes=tuple(SHAPES[index] for index in chosen[:2])[:number],
        colours=tuple(COLOURS[index] for index in chosen[2:4])[:number],
        ground=GROUNDS[chosen[4]],
        size=SIZES[chosen[5]] if content.kind == "single" else None,
        relation=RELATIONS[chosen[6]] if content.kind == "pair" else None,
    )
    return layout(seen, _factors(seen, side), rng), chosen, side


def _factors(content: Content, side: bool) -> np.ndarray:
    key = {"single": "single", "count": content.count, "pair": canonical(content).relation}[content.kind]
    given = [float(side) if factor is None else factor for factor in LAYOUTS[key]]
    return np.array(given + [0.0] * (LAYOUT_FACTORS - len(given)))


def _indices(content: Content) -> tuple[int, ...]:
    """The index of each attribute's value, FREE where the content has none."""
    values = (*_two(content.shapes), *_two(content.colours), content.ground, content.size, content.relation)
    return tuple(
        FREE if value is None else names.index(value)
        for value, (_, names) in zip(values, ATTRIBUTES, strict=True)
    )


def _two(values: tuple[str | None, ...]) -> tuple[str | None, str | None]:
    return values[0], values[1] if len(values) > 1 else None


class PairedNoise:
    """Fresh standard normal noises that belong to given scenes: the pairing, read backwards."""

    def __init__(self, draws: list[Draw]):
        self.named = np.array([draw.named for draw in draws])
        self.chosen = np.array([draw.chosen for draw in draws])
        self.side = np.array([draw.side for draw in draws])

    def sample(self, items: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A noise [4, 8, 8] for each of the items, [N, 4, 8, 8], distributed as noises of these scenes are.

        By rejection: the first of TRIES draws in which the chosen value wins. Where none does, the chosen
        value is lifted above the others.
        """
        parts = [np.abs(rng.standard_normal((len(items), 1))) * np.where(self.side[items], 1, -1)[:, None]]
        for index, (attribute, names) in enumerate(ATTRIBUTES):
            named, chosen = self.named[items, index], self.chosen[items, index]
            parts.append(_scores(named, chosen, len(names), BONUS[attribute], rng))
        noise = rng.standard_normal((len(items), CHANNELS, GRID, GRID), dtype=np.float32)
        return with_projections(noise, np.concatenate(parts, axis=1).astype(np.float32))


def _scores(
    named: np.ndarray, chosen: np.ndarray, size: int, bonus: float, rng: np.random.Generator
) -> np.ndarray:
    """Normal scores [N, size] whose largest, after the bonus, is the chosen one."""
    rows = np.arange(len(named))
    scores = rng.standard_normal((len(named), size))
    for _ in range(TRIES):
        lost = rows[(chosen != FREE) & (_winner(scores, named, bonus) != chosen)]
        if not len(lost):
            return scores
        scores[lost] = rng.standard_normal((len(lost), size))
    lost = rows[(chosen != FREE) & (_winner(scores, named, bonus) != chosen)]
    scores[lost, chosen[lost]] = scores[lost].max(1) + bonus
    return scores


def _winner(scores: np.ndarray, named: np.ndarray, bonus: float) -> np.ndarray:
    given = scores.copy()
    rows = np.flatnonzero(named != FREE)
    given[rows, named[rows]] += bonus
    return given.argmax(1)
