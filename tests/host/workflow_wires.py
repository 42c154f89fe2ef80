"""Where the frontend draws the wires of a workflow file, and where two of them cross.

Splines as LiteGraph draws them: from socket to socket, or from point to point of a lane of reroutes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom
TITLE, ROW, FIRST_ROW = 30, 20, 14  # pixels: a title bar, a row of sockets, the first row's middle
WIDGET = 24  # a widget's height where it is no text of several lines
COLLAPSED = 80  # width of a collapsed node with a title of two letters
LIVE = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
SHOWS = (*LIVE, "SaveImage", "PreviewImage")  # stock nodes that grow by the picture that they show
PICTURE, MARGIN = 220, 6  # pixels: the height that frontends give a picture at least; above the first row
WIDGET_2, BELOW_2 = 27.4, 40  # in Nodes 2.0: a widget's row, and what is below a picture
REACH, LONGEST = 0.25, 80  # how far a spline's handles stretch: a share of the way; the most at a reroute
PIECES = 40
APART = 15  # pixels: crossings of the same two wires that are nearer are one to the eye


def spline(start: Point, end: Point, leaves: Point, arrives: Point) -> list[Point]:
    """Points on a cubic Bezier curve; `leaves` and `arrives` are its handles relative to its ends."""
    points = []
    for step in range(PIECES + 1):
        t = step / PIECES
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        handles = (start, (start[0] + leaves[0], start[1] + leaves[1]),
                   (end[0] + arrives[0], end[1] + arrives[1]), end)  # fmt: skip
        x, y = (sum(w * p[axis] for w, p in zip(weights, handles, strict=True)) for axis in (0, 1))
        points.append((x, y))
    return points


class Wires:
    """The wires of a workflow as lines of many short pieces, by link id, in the classic look or Nodes 2.0."""

    def __init__(self, workflow: dict[str, Any], nodes_2: bool = False) -> None:
        self.first_row, self.widgets = (12, 38) if nodes_2 else (FIRST_ROW, 16)
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.areas = {number: grown(node, nodes_2) for number, node in self.nodes.items()}
        self.links = {link[0]: link for link in workflow["links"]}
        extra = workflow.get("extra", {})
        self.reroutes = {reroute["id"]: reroute for reroute in extra.get("reroutes", [])}
        self.last = {end["id"]: end["parentId"] for end in extra.get("linkExtensions", [])}
        self.lines = {link: self._line(link) for link in self.links}

    def output_at(self, node: dict[str, Any], slot: int) -> Point:
        _, top, right, _ = box(node)
        if node["flags"].get("collapsed"):
            return right, top + TITLE / 2
        return right, node["pos"][1] + self.first_row + ROW * slot

    def input_at(self, node: dict[str, Any], slot: int) -> Point:
        """Sockets without a widget take a row each; those with one are beside it, below all rows."""
        if node["flags"].get("collapsed"):
            return node["pos"][0], node["pos"][1] - TITLE / 2
        left, top = node["pos"]
        plain = ["widget" not in socket for socket in node["inputs"]]
        if plain[slot]:
            return left, top + self.first_row + ROW * sum(plain[:slot])
        rows, before = max(sum(plain), len(node["outputs"])), slot - sum(plain[:slot])
        return left, top + self.widgets + ROW * rows + WIDGET * before

    def ends(self, link: int) -> tuple[Point, Point]:
        _, source, output, target, slot, _ = self.links[link]
        return self.output_at(self.nodes[source], output), self.input_at(self.nodes[target], slot)

    def lane(self, link: int) -> list[dict[str, Any]]:
        """The reroutes on a link's way, first to last."""
        found, number = [], self.last.get(link)
        while number is not None:
            found.insert(0, self.reroutes[number])
            number = self.reroutes[number].get("parentId")
        return found

    def _line(self, link: int) -> list[Point]:
        start, end = self.ends(link)
        lane, line, leaves, at = self.lane(link), [], None, start
        for reroute in lane:
            there = (reroute["pos"][0], reroute["pos"][1])
            angle = self._angle(at, reroute)
            near = min(LONGEST, REACH * math.dist(at, there))
            leaves = leaves or (REACH * math.dist(at, there), 0)
            line += spline(at, there, leaves, (-near * math.cos(angle), -near * math.sin(angle)))
            onward = self._next(link, reroute)
            far = min(LONGEST, REACH * math.dist(there, onward))
            at, leaves = there, (far * math.cos(angle), far * math.sin(angle))
        way = REACH * math.dist(at, end)
        return line + spline(at, end, leaves or (way, 0), (-way, 0))

    def _next(self, link: int, reroute: dict[str, Any]) -> Point:
        lane = self.lane(link)
        place = lane.index(reroute) + 1
        return tuple(lane[place]["pos"]) if place < len(lane) else self.ends(link)[1]

    def _angle(self, before: Point, reroute: dict[str, Any]) -> float:
        """Direction of the curve at a reroute: half way between how it comes and how it goes on."""
        x, y = reroute["pos"]
        onward = [self._next(link, reroute) for link in reroute["linkIds"]]
        goes = sum(math.atan2(to[1] - y, to[0] - x) for to in onward) / len(onward)
        comes = math.atan2(y - before[1], x - before[0])
        half = (comes - goes) / 2
        return comes - (half + math.pi if abs(half) > math.pi / 2 else half)

    def crossings(self) -> list[tuple[int, int, Point]]:
        """Every place where the wires of two sockets are seen to cross, with a link of either.

        Wires of one socket are one wire, however often it splits, and so two of them that run along one lane
        cross another there at one place.
        """
        found: dict[tuple[Any, Any], list[tuple[int, int, Point]]] = {}
        ordered = sorted(self.lines)
        for index, first in enumerate(ordered):
            for second in ordered[:index]:
                one, other = sorted((tuple(self.links[second][1:3]), tuple(self.links[first][1:3])))
                if one == other:
                    continue
                seen = found.setdefault((one, other), [])
                for place in places(self.lines[first], self.lines[second]):
                    if all(math.dist(place, before) > APART for *_, before in seen):
                        seen.append((second, first, place))
        return [each for seen in found.values() for each in seen]

    def hidden(self, link: int) -> list[str]:
        """Types of the nodes that a link runs behind after a run with live previews, its own two left out."""
        own = {self.links[link][1], self.links[link][3]}
        return [
            self.nodes[number]["type"]
            for number, area in self.areas.items()
            if number not in own and any(is_inside(point, area) for point in self.lines[link])
        ]


def box(node: dict[str, Any]) -> Box:
    """A node with its title bar: left, top, right, bottom."""
    (left, top), (width, height) = node["pos"], node["size"]
    if node["flags"].get("collapsed"):
        return left, top - TITLE, left + COLLAPSED, top
    return left, top - TITLE, left + width, top + height


def grown(node: dict[str, Any], nodes_2: bool = False) -> Box:
    """The box after a run with live previews: what shows a picture has grown until it has room for one."""
    left, top, right, bottom = box(node)
    if node["type"] not in SHOWS or node["flags"].get("collapsed"):
        return left, top, right, bottom
    rows = ROW * max(sum("widget" not in socket for socket in node["inputs"]), len(node["outputs"]))
    widgets = sum("widget" in socket for socket in node["inputs"])
    if nodes_2:
        room = MARGIN + rows + WIDGET_2 * widgets + PICTURE + BELOW_2
    else:  # here the control after a seed has a row of its own
        room = MARGIN + rows + WIDGET * len(node["widgets_values"]) + PICTURE
    return left, top, right, max(bottom, node["pos"][1] + room)


def is_inside(point: Point, area: Box) -> bool:
    left, top, right, bottom = area
    return left < point[0] < right and top < point[1] < bottom


def places(one: list[Point], other: list[Point]) -> list[Point]:
    """Where two lines of short pieces cross, by the piece of the first."""
    first, second = numpy.array(one), numpy.array(other)
    if (first.max(0) < second.min(0)).any() or (second.max(0) < first.min(0)).any():
        return []
    a, b, c, d = first[:-1, None], first[1:, None], second[None, :-1], second[None, 1:]
    crossed = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return [one[piece] for piece in numpy.flatnonzero(crossed.any(1))]


def side(a: Any, b: Any, p: Any) -> Any:
    """Positive left of the line from a to b, negative right of it; the last axis is x and y."""
    along, across = b - a, p - a
    return along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]
