"""Which captions are true of which pictures, for a whole batch at once.

"A red star" is true of every picture with a red star in it, also where it is one of two objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .scenes import COLOURS, GROUNDS, KINDS, RELATIONS, SHAPES, SIZES, Content, canonical

NOT_SAID = -1


@dataclass(frozen=True)
class Facts:
    """Contents as arrays of value indices, one row per content; NOT_SAID where there is none."""

    kind: np.ndarray  # [N]
    shapes: np.ndarray  # [N, 2]
    colours: np.ndarray  # [N, 2]
    ground: np.ndarray  # [N]
    size: np.ndarray
    relation: np.ndarray  # of a pair, as `canonical` writes it
    count: np.ndarray

    @classmethod
    def of(cls, contents: Sequence[Content]) -> Facts:
        """The facts of some contents."""
        rows = [canonical(content) for content in contents]
        return cls(
            kind=np.array([KINDS.index(row.kind) for row in rows]),
            shapes=np.array([_both(SHAPES, row.shapes) for row in rows]),
            colours=np.array([_both(COLOURS, row.colours) for row in rows]),
            ground=np.array([_index(GROUNDS, row.ground) for row in rows]),
            size=np.array([_index(SIZES, row.size) for row in rows]),
            relation=np.array([_index(RELATIONS, row.relation) for row in rows]),
            count=np.array([row.count for row in rows]),
        )

    def __getitem__(self, rows: np.ndarray) -> Facts:
        return Facts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def true_of(captions: Facts, pictures: Facts) -> np.ndarray:
    """Whether caption i is true of picture j, bool [captions, pictures]."""

    def agrees(said: np.ndarray, shown: np.ndarray) -> np.ndarray:
        return (said[:, None] == NOT_SAID) | (said[:, None] == shown[None])

    ground = agrees(captions.ground, pictures.ground)
    objects = [
        [
            agrees(captions.shapes[:, said], pictures.shapes[:, shown])
            & agrees(captions.colours[:, said], pictures.colours[:, shown])
            for shown in (0, 1)
        ]
        for said in (0, 1)
    ]
    second = pictures.shapes[None, :, 1] != NOT_SAID
    somewhere = (objects[0][0] | (objects[0][1] & second)) & agrees(captions.size, pictures.size)
    same_kind = captions.kind[:, None] == pictures.kind[None]
    same_count = captions.count[:, None] == pictures.count[None]
    in_order = objects[0][0] & objects[1][1] & agrees(captions.relation, pictures.relation)
    whole = same_kind & same_count & in_order
    single = (captions.kind == KINDS.index("single"))[:, None]
    return ground & np.where(single, somewhere, whole)


def _both(names: tuple[str, ...], values: tuple[str | None, ...]) -> tuple[int, int]:
    return _index(names, values[0]), _index(names, values[1]) if len(values) > 1 else NOT_SAID


def _index(names: tuple[str, ...], value: str | None) -> int:
    return NOT_SAID if value is None else names.index(value)
