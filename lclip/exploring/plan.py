"""Which cells a map has: the axes between corners, which two are shown, and where the others stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..latents.items import is_whole
from .blending import Corners

AUTO, NONE = "auto", "none"
LARGEST = 32  # cells a side
PLACE = re.compile(r"\s*([a-z]+ \d+-\d+)\s*[=:]?\s*([0-9.]+)\s*")


@dataclass(frozen=True)
class Axis:
    """A way from one corner of a kind to another: from the first to the second, u, or to the third, v."""

    kind: str
    first: int
    last: int
    second: bool = False

    @property
    def name(self) -> str:
        """Such as "noise 1-2"."""
        return f"{self.kind} {self.first}-{self.last}"


def axes_of(kinds: Iterable[Corners]) -> list[Axis]:
    """Two corners of a kind span one axis, three or four span two."""
    axes = []
    for each in kinds:
        first, *others = each.numbers
        axes += [Axis(each.kind, first, last, bool(place)) for place, last in enumerate(others[:2])]
    return axes


@dataclass(frozen=True)
class Plan:
    """The cells of a map, row by row from the corner with all axes at 0.

    side: cells a side. x, y: the axes that are shown; without y the map is one row. elsewhere: where the
    other axes stand, by name, 0 where none is given.
    """

    axes: tuple[Axis, ...]
    side: int
    x: Axis
    y: Axis | None
    elsewhere: Mapping[str, float]

    @classmethod
    def of(
        cls, kinds: Iterable[Corners], side: int, x: str = AUTO, y: str = AUTO, elsewhere: str = ""
    ) -> Plan:
        """By names of axes, such as "noise 1-2"; "auto" takes the first that is left, and y may be "none".
        elsewhere: such as "noise 1-3 0.5, prompt 1-2 0.25". ValueError for what no map can be made of."""
        axes = axes_of(kinds)
        if not axes:
            raise ValueError(
                "the map has one corner only, and nothing lies between; expected 2 to 4. Give another seed, "
                "or wire another prompt, latent or noise as a corner"
            )
        if not is_whole(side) or not 2 <= side <= LARGEST:
            raise ValueError(f"the map has {side} cells a side; expected 2 to {LARGEST}")
        named = {axis.name: axis for axis in axes}
        asked = [(x, "x")] * (x != AUTO) + [(y, "y")] * (y not in (AUTO, NONE))
        taken = [_named(named, *each) for each in asked]
        left = [axis for axis in axes if axis not in taken]
        first = named[x] if x != AUTO else left.pop(0) if left else None
        if first is None:
            raise ValueError(f"the only axis is {y}; let x be {y} and y be none")
        second = named.get(y) if y != AUTO else left[0] if left else None
        if first == second:
            raise ValueError(f"x and y are both {x}; expected two axes of {', '.join(named)}")
        shown = {axis.name for axis in (first, second) if axis}
        places = parse_places(elsewhere, named).items()
        hidden = {name: share for name, share in places if name not in shown}
        return cls(tuple(axes), side, first, second, hidden)

    @property
    def columns(self) -> int:
        return self.side

    @property
    def rows(self) -> int:
        return self.side if self.y else 1

    def __len__(self) -> int:
        return self.rows * self.columns

    def place(self, cell: int) -> dict[str, float]:
        """Where a cell stands on every axis, by name: from 0 to 1."""
        row, column = divmod(cell, self.columns)
        shown = {self.x.name: column / (self.columns - 1)}
        if self.y is not None:
            shown[self.y.name] = row / (self.rows - 1)
        return {axis.name: shown.get(axis.name, self.elsewhere.get(axis.name, 0.0)) for axis in self.axes}

    def told(self, cell: int) -> str:
        """The same in words, as `elsewhere` takes them."""
        return ", ".join(f"{name} {share:.4g}" for name, share in self.place(cell).items())

    def blended(self, kinds: Iterable[Corners], cell: int) -> dict[str, Any]:
        """What of each kind is in a cell."""
        place, found = self.place(cell), {}
        for each in kinds:
            ways = [0.0, 0.0]
            for axis in self.axes:
                if axis.kind == each.kind:
                    ways[axis.second] = place[axis.name]
            found[each.kind] = each.at(*ways)
        return found


def parse_places(text: str, known: Iterable[str]) -> dict[str, float]:
    """ "noise 1-3 0.5, prompt 1-2 0.25" -> places by axis. ValueError for what is no axis, or not in 0..1."""
    places = {}
    for part in filter(str.strip, re.split(r"[,;\n]", text)):
        found = PLACE.fullmatch(part)
        try:
            name, share = (found[1], float(found[2])) if found else ("", -1.0)
        except ValueError:
            name, share = "", -1.0
        if name not in known or not 0 <= share <= 1:
            raise ValueError(
                f"elsewhere says {part.strip()!r}; expected an axis and a number from 0 to 1, such as "
                f"{next(iter(known))} 0.5. The axes are {', '.join(known)}"
            )
        places[name] = share
    return places


def _named(axes: Mapping[str, Axis], name: str, what: str) -> Axis:
    if name not in axes:
        raise ValueError(
            f"the {what} axis is {name!r}, which these corners do not span; expected {', '.join(axes)}"
        )
    return axes[name]
