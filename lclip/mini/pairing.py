"""Which picture a noise belongs to: the fixed noise-to-picture pairing that the generator learns.

As in diffusion models, the low frequencies of the noise decide the layout. They also argue with the words:
each attribute takes the value with the highest score, a projection of the noise plus a bonus for the value
that the caption names (the Gumbel-max trick with normal noise). So the wrong picture is always a few steps
of noise away from the right one, and what the caption leaves open is the noise's to choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from .drawing import LAYOUT_FACTORS, layout, place_counts
from .scenes import COLOURS, GROUNDS, RELATIONS, SHAPES, SIZES, Content, Scene

GRID, CHANNELS = 8, 4
FREQUENCIES = 4  # a side: 4 x 4 cosines of 4 channels give 64 projections, of which 42 are used
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
FREE = -1  # in place of a value's index: not named, or without effect on the picture
TRIES = 64


@dataclass(frozen=True)
class Draw:
    """How a noise met a caption: indices of the named and of the chosen value per attribute, and the
    layout's choices as (which, of how many).
    """

    named: tuple[int, ...]
    chosen: tuple[int, ...]
    places: tuple[tuple[int, int], ...]


@cache
def cosine_basis() -> np.ndarray:
    """Orthonormal 2-D cosines, [16, 8, 8], lowest frequency first."""
    position = (np.arange(GRID) + 0.5) / GRID
    rows = np.stack([np.cos(np.pi * order * position) for order in range(FREQUENCIES)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = sorted(np.ndindex(FREQUENCIES, FREQUENCIES), key=lambda pair: (sum(pair), pair))
    return np.stack([np.outer(rows[i], rows[j]) for i, j in order]).astype(np.float32)


def projections(noise: np.ndarray) -> np.ndarray:
    """The low frequencies of noise [..., 4, 8, 8], as [..., 64]; standard normal when the noise is."""
    low = np.einsum("fhw,...chw->...fc", cosine_basis(), noise)
    return low.reshape(*low.shape[:-2], -1)


def with_projections(noise: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Noise [N, 4, 8, 8] with its low frequencies replaced by `wanted` [N, up to 64]."""
    difference = np.zeros((len(noise), FREQUENCIES**2 * CHANNELS), dtype=np.float32)
    difference[:, : wanted.shape[1]] = wanted - projections(noise)[:, : wanted.shape[1]]
    return noise + np.einsum("nfc,fhw->nchw", difference.reshape(len(noise), -1, CHANNELS), cosine_basis())


def paired_scene(content: Content, noise: np.ndarray, rng: np.random.Generator) -> Scene:
    """The scene that belongs to a caption's content and a noise [4, 8, 8]; `rng` only tints."""
    return _realise(content, noise, rng)[0]


def draw_pair(content: Content, noise: np.ndarray, rng: np.random.Generator) -> tuple[Scene, Draw]:
    """`paired_scene`, and what has to stay the same in a noise for the same scene."""
    scene, chosen, factors = _realise(content, noise, rng)
    named = _indices(content)
    shown = _indices(scene.content)
    effective = tuple(value if seen != FREE else FREE for value, seen in zip(chosen, shown, strict=True))
    counts = place_counts(scene.content, factors)
    places = tuple((min(int(factor * n), n - 1), n) for factor, n in zip(factors, counts, strict=True))
    return scene, Draw(named, effective, places)


def _realise(
    content: Content, noise: np.ndarray, rng: np.random.Generator
) -> tuple[Scene, list[int], np.ndarray]:
    from scipy.special import ndtr

    values = projections(noise)
    factors = ndtr(values[:LAYOUT_FACTORS])
    chosen, start = [], LAYOUT_FACTORS
    for (attribute, names), named in zip(ATTRIBUTES, _indices(content), strict=True):
        scores = values[start : start + len(names)].copy()
        start += len(names)
        if named != FREE:
            scores[named] += BONUS[attribute]
        chosen.append(int(scores.argmax()))
    shapes = tuple(SHAPES[index] for index in chosen[:2])
    colours = tuple(COLOURS[index] for index in chosen[2:4])
    number = len(content.shapes)
    seen = replace(
        content,
        shapes=shapes[:number],
        colours=colours[:number],
        ground=GROUNDS[chosen[4]],
        size=SIZES[chosen[5]] if content.kind == "single" else None,
        relation=RELATIONS[chosen[6]] if content.kind == "pair" else None,
    )
    return layout(seen, factors, rng), chosen, factors


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
        self.places = np.array([draw.places for draw in draws])  # [N, 7, 2]

    def sample(self, items: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A noise [4, 8, 8] for each of the items, [N, 4, 8, 8], distributed as noises of these scenes are.

        Layout by inversion, attributes by rejection: the first of TRIES draws in which the chosen value
        wins. Where none does, the chosen value is lifted above the others.
        """
        from scipy.special import ndtri

        which, number = self.places[items, :, 0], self.places[items, :, 1]
        parts = [ndtri(np.clip((which + rng.random(which.shape)) / number, 1e-6, 1 - 1e-6))]
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
