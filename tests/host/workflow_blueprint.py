"""The subgraph blueprint "Score and pick best": Text Reward and Select Best Latents as one node.

`python tests/host/workflow_blueprint.py URL` writes it by the node definitions of the host at URL.
"""

from __future__ import annotations

import json
import sys
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from workflow_canvas import PACK, Canvas, Placed

NAME = "Score and pick best"
OUTSIDE_IN, OUTSIDE_OUT = -10, -20  # the ids of a subgraph's own ends
BOX = (140, 120)
PICTURE = "$$canvas-image-preview"
"""What frontends since 1.43 call the picture on a node where it is a widget; from about 1.49 on they want it
among `previewExposures`, not `proxyWidgets`."""
TEXT = "Scores latents against a text, without decoding them, and keeps the k best of the batch."


def ident(what: str) -> str:
    """The same id in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"latent-clip/{NAME}/{what}"))


class Inside:
    """The graph in the subgraph, and the sockets that it shows outside."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self.canvas = Canvas(NAME, definitions)
        self.scorer = self.canvas.node("LatentCLIP_TextReward", (0, 0), (260, 140))
        self.select = self.canvas.node(
            "LatentCLIP_Select", (330, 0), (260, 420), None, {"k": 2}, reward=self.scorer["reward"]
        )
        self.links = [self._as_record(link) for link in self.canvas.links]
        self.inputs = [
            self._enter(self.scorer, "latent_clip"),
            self._enter(self.select, "latent"),
            self._enter(self.scorer, "text"),
            self._enter(self.select, "k"),
        ]
        self.outputs = [self._leave(self.select, name) for name in ("best", "rest", "scores")]

    @staticmethod
    def _as_record(link: list[Any]) -> dict[str, Any]:
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return dict(zip(names, link, strict=True))

    def _link(self, *ends: Any) -> int:
        number = len(self.links) + 1
        self.links.append(self._as_record([number, *ends]))
        return number

    def _enter(self, node: Placed, name: str) -> dict[str, Any]:
        slot = next(i for i, socket in enumerate(node.saved["inputs"]) if socket["name"] == name)
        socket, place = node.saved["inputs"][slot], len(self.links) - len(self.canvas.links)
        number = self._link(OUTSIDE_IN, place, node.saved["id"], slot, socket["type"])
        socket["link"] = number
        return {"id": ident(f"in {name}"), "name": name, "type": socket["type"], "linkIds": [number]}

    def _leave(self, node: Placed, name: str) -> dict[str, Any]:
        place = sum(link["target_id"] == OUTSIDE_OUT for link in self.links)
        output = node[name]
        number = self._link(output.node, output.slot, OUTSIDE_OUT, place, output.kind)
        node.saved["outputs"][output.slot]["links"].append(number)
        return {"id": ident(f"out {name}"), "name": name, "type": output.kind, "linkIds": [number]}

    def saved(self) -> dict[str, Any]:
        return {
            "id": ident("graph"),
            "version": 1,
            "state": {
                "lastGroupId": 0,
                "lastNodeId": len(self.canvas.nodes),
                "lastLinkId": len(self.links),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": NAME,
            "inputNode": {"id": OUTSIDE_IN, "bounding": [-240, 0, *BOX]},
            "outputNode": {"id": OUTSIDE_OUT, "bounding": [680, 0, *BOX]},
            "inputs": self.inputs,
            "outputs": self.outputs,
            "widgets": [],
            "nodes": self.canvas.nodes,
            "groups": [],
            "links": self.links,
            "extra": {},
            "category": "Latent-CLIP",
            "description": TEXT,
        }


def blueprint(definitions: dict[str, Any]) -> dict[str, Any]:
    """One node on an empty canvas, and what is in it."""
    inside = Inside(definitions)
    widgets = {"text": inside.scorer.saved["id"], "k": inside.select.saved["id"]}
    proxies = [*widgets.items(), (PICTURE, inside.select.saved["id"])]
    exposed = {"name": PICTURE, "sourceNodeId": str(inside.select.saved["id"]), "sourcePreviewName": PICTURE}
    inputs: list[dict[str, Any]] = []
    for socket in inside.inputs:
        inputs.append({"name": socket["name"], "type": socket["type"], "link": None})
        if socket["name"] in widgets:
            inputs[-1]["widget"] = {"name": socket["name"]}
    node = {
        "id": 1,
        "type": ident("graph"),
        "title": NAME,
        "pos": [0, 0],
        "size": [270, 440],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": [{"name": s["name"], "type": s["type"], "links": []} for s in inside.outputs],
        "properties": {
            **PACK,
            "proxyWidgets": [[str(owner), name] for name, owner in proxies],
            "previewExposures": [exposed],
        },
        "widgets_values": [],
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [inside.saved()]},
        "extra": {},
    }


def write(url: str, folder: Path) -> None:
    with urllib.request.urlopen(f"{url.rstrip('/')}/object_info", timeout=120) as reply:
        text = json.dumps(blueprint(json.load(reply)), indent=2)
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1], Path(__file__).resolve().parents[2] / "subgraphs")
