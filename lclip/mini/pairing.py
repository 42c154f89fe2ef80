"""Which picture a noise belongs to: the fixed noise-to-picture pairing that the generator learns.

As in diffusion models, the low frequencies of the noise decide the layout. They also argue with the words:
each attribute takes the value with the highest score, a projection of the noise plus a bonus for the value
that the caption names (the Gumbel-max trick with normal noise). So the wrong picture is always a few steps
of noise away from the right one, and what the caption leaves open is the noise's to choose.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from scipy.special import ndtr

from .drawing import LAYOUT_FACTORS, layout
from .scenes import COLOURS, GROUNDS, RELATIONS, SHAPES, SIZES, Content, Scene

GRID, CHANNELS = 8, 4
FREQUENCIES = 4  # a side: 4 x 4 cosines of 4 channels give 64 projections
BONUS = {"shape": 3.0, "colour": 2.7, "ground": 3.5, "size": 3.0, "relation": 3.5}


@cache
def cosine_basis() -> np.ndarray:
    """Orthonormal 2-D cosines, [16, 8, 8], lowest frequency first."""
    position = (np.arange(GRID) + 0.5) / GRID
    rows = np.stack([np.cos(np.pi * order * position) for order in range(FREQUENCIES)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = sorted(np.ndindex(FREQUENCIES, FREQUENCIES), key=lambda pair: (sum(pair), pair))
    return np.stack([np.outer(rows[i], rows[j]) for i, j in order]).astype(np.float32)


def projections(noise: np.ndarray) -> np.ndarray:
    """The low frequencies of noise [4, 8, 8], [64], standard normal when the noise is."""
    return np.einsum("fhw,chw->fc", cosine_basis(), noise).reshape(-1)


def resample_details(noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same low frequencies [N, 4, 8, 8] with new high ones: another noise of the same picture."""
    basis = cosine_basis()
    fresh = rng.standard_normal(noise.shape, dtype=np.float32)
    difference = np.einsum("fhw,nchw->ncf", basis, noise - fresh)
    return fresh + np.einsum("ncf,fhw->nchw", difference, basis)


def paired_scene(content: Content, noise: np.ndarray, rng: np.random.Generator) -> Scene:
    """The scene that belongs to a caption's content and a noise [4, 8, 8]; `rng` only tints."""
    scores = iter(np.split(projections(noise), _ENDS))
    factors = ndtr(next(scores))
    shapes = tuple(_choose(SHAPES, named, next(scores), "shape") for named in _padded(content.shapes))
    colours = tuple(_choose(COLOURS, named, next(scores), "colour") for named in _padded(content.colours))
    ground = _choose(GROUNDS, content.ground, next(scores), "ground")
    size = _choose(SIZES, content.size, next(scores), "size")
    relation = _choose(RELATIONS, content.relation, next(scores), "relation")
    number = len(content.shapes)
    chosen = replace(
        content,
        shapes=shapes[:number],
        colours=colours[:number],
        ground=ground,
        size=size if content.kind == "single" else None,
        relation=relation if content.kind == "pair" else None,
    )
    return layout(chosen, factors, rng)


_LENGTHS = (
    LAYOUT_FACTORS,
    len(SHAPES),
    len(SHAPES),
    len(COLOURS),
    len(COLOURS),
    len(GROUNDS),
    len(SIZES),
    len(RELATIONS),
)
_ENDS = np.cumsum(_LENGTHS)  # 42 of the 64 projections are used


def _padded(values: tuple[str | None, ...]) -> tuple[str | None, str | None]:
    return values[0], values[1] if len(values) > 1 else None


def _choose(names: tuple[str, ...], named: str | None, scores: np.ndarray, attribute: str) -> str:
    bonus = np.array([BONUS[attribute] if name == named else 0.0 for name in names])
    return names[int((scores + bonus).argmax())]
