"""Writing workflows in the frontend's own format: nodes with sockets and widgets, lanes, groups, notes.

Sockets and widgets are read off a running host's /object_info; plans say only what differs from the defaults.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

Point = tuple[float, float]
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SEEDS = {"seed", "noise_seed"}  # the frontend gives these a control unless their definition says otherwise
PACK, HOST = {"cnr_id": "latent-clip", "ver": "0.1.0"}, {"cnr_id": "comfy-core", "ver": "0.3.64"}
OURS = "LatentCLIP_"


def specs_of(info: dict[str, Any]) -> dict[str, list[Any]]:
    """A node's inputs in the order of its definition."""
    return {
        name: info["input"][section][name]
        for section in ("required", "optional")
        for name in info["input_order"].get(section, [])
    }


def is_widget(spec: list[Any]) -> bool:
    options = spec[1] if len(spec) > 1 else {}
    return (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES) and not options.get("forceInput")


def has_control(name: str, spec: list[Any]) -> bool:
    """Whether the frontend puts a "control after generate" widget behind this one."""
    options = spec[1] if len(spec) > 1 else {}
    return bool(options.get("control_after_generate", name in SEEDS))


def default_of(spec: list[Any]) -> Any:
    """What the frontend shows for a widget that nobody has touched."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options")
    if "default" in options or not choices:
        return options.get("default", "")
    return choices[0]


@dataclass(frozen=True)
class Model:
    """A file that a loader wants, as the missing-model dialog offers it. The widget's value equals `name`."""

    name: str
    url: str
    directory: str


@dataclass(frozen=True)
class Output:
    """A socket to wire from; `lane` are the reroute points that a wire from it passes."""

    canvas: Canvas
    node: int
    slot: int
    kind: str
    lane: tuple[int, ...] = ()

    def via(self, *points: Point) -> Output:
        """The same socket, with further points on the way."""
        return replace(self, lane=self.canvas.extend_lane(self.lane, points))


@dataclass(frozen=True)
class Placed:
    """A node on the canvas; indexing it by an output's name gives a socket to wire from."""

    canvas: Canvas
    saved: dict[str, Any]

    def __getitem__(self, output: str) -> Output:
        slot = next(i for i, socket in enumerate(self.saved["outputs"]) if socket["name"] == output)
        return Output(self.canvas, self.saved["id"], slot, self.saved["outputs"][slot]["type"])


class Canvas:
    """One workflow in the making; `definitions` is the host's /object_info."""

    def __init__(self, name: str, definitions: dict[str, Any]) -> None:
        self.name, self.definitions = name, definitions
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.groups: list[dict[str, Any]] = []
        self.reroutes: dict[int, dict[str, Any]] = {}
        self.ends: list[dict[str, int]] = []

    def node(
        self,
        kind: str,
        at: Point,
        size: Point,
        title: str | None = None,
        values: dict[str, Any] | None = None,
        models: tuple[Model, ...] = (),
        collapsed: bool = False,
        **wires: Output,
    ) -> Placed:
        """A node with default widgets but for `values`, and each named input wired to an output."""
        info, values = self.definitions[kind], dict(values or {})
        specs = specs_of(info)
        node: dict[str, Any] = self._frame(kind, at, size, title)
        if collapsed:
            node["flags"]["collapsed"] = True
        node["inputs"] = [self._input(name, spec, name in info["input"].get("optional", {}))
                          for name, spec in specs.items()]  # fmt: skip
        node["outputs"] = [
            {"name": name, "type": output, "links": []}
            for name, output in zip(info["output_name"], info["output"], strict=True)
        ]
        node["properties"] = {**(PACK if kind.startswith(OURS) else HOST), "Node name for S&R": kind}
        if models:
            node["properties"]["models"] = [vars(model) for model in models]
        node["widgets_values"] = []
        for name, spec in specs.items():
            if is_widget(spec):
                node["widgets_values"].append(values.pop(name, default_of(spec)))
                if has_control(name, spec):
                    node["widgets_values"].append("fixed")
        if unknown := values.keys() | (wires.keys() - specs.keys()):
            raise ValueError(f"{kind} has no {sorted(unknown)}; it has {sorted(specs)}.")
        placed = Placed(self, node)
        for name, output in wires.items():
            self._wire(output, node, list(specs).index(name))
        return placed

    def note(self, text: str, at: Point, size: Point, title: str) -> None:
        node = self._frame("MarkdownNote", at, size, title)
        node.update(inputs=[], outputs=[], properties={}, widgets_values=[text])
        node.update(color="#432", bgcolor="#653")

    def group(self, title: str, left: float, top: float, right: float, bottom: float, color: str) -> None:
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [left, top, right - left, bottom - top],
                "color": color,
                "font_size": 32,
                "flags": {},
            }
        )

    def extend_lane(self, lane: tuple[int, ...], points: tuple[Point, ...]) -> tuple[int, ...]:
        for point in points:
            number = len(self.reroutes) + 1
            self.reroutes[number] = {"id": number, "pos": list(point), "linkIds": []}
            if lane:
                self.reroutes[number]["parentId"] = lane[-1]
            lane = (*lane, number)
        return lane

    def saved(self) -> dict[str, Any]:
        """The workflow as the frontend would save it. Without a saved view it is fitted to the window."""
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"latent-clip/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"reroutes": list(self.reroutes.values()), "linkExtensions": self.ends},
            "version": 0.4,
        }

    def _frame(self, kind: str, at: Point, size: Point, title: str | None) -> dict[str, Any]:
        node: dict[str, Any] = {"id": len(self.nodes) + 1, "type": kind, "pos": list(at), "size": list(size)}
        node.update(flags={}, order=len(self.nodes), mode=0)
        if title is not None:
            node["title"] = title
        self.nodes.append(node)
        return node

    @staticmethod
    def _input(name: str, spec: list[Any], optional: bool) -> dict[str, Any]:
        kind = "COMBO" if isinstance(spec[0], list) else spec[0]
        socket: dict[str, Any] = {"name": name, "type": kind, "link": None}
        if is_widget(spec):
            socket["widget"] = {"name": name}
        if optional:
            socket["shape"] = 7
        return socket

    def _wire(self, output: Output, node: dict[str, Any], slot: int) -> None:
        link = len(self.links) + 1
        self.links.append([link, output.node, output.slot, node["id"], slot, output.kind])
        source = next(other for other in self.nodes if other["id"] == output.node)
        source["outputs"][output.slot]["links"].append(link)
        node["inputs"][slot]["link"] = link
        for number in output.lane:
            self.reroutes[number]["linkIds"].append(link)
        if output.lane:
            self.ends.append({"id": link, "parentId": output.lane[-1]})
