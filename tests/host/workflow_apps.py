"""App-mode versions of the example workflows: the same graph, of which only what one sets and sees is shown.

The frontend reads them from `extra` (1.43 and later; older ones open the graph): linearMode says that the
file opens as an app, linearData which widgets and which output nodes it shows, in that order. Its own name
for such a file is NAME.app.json.
"""

from __future__ import annotations

import uuid
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

SUFFIX = ".app"


@dataclass(frozen=True)
class App:
    """inputs: nodes, by title or else by type, each with a widget of theirs and what the app calls it.

    outputs: nodes likewise.
    """

    inputs: tuple[tuple[str, str, str], ...]
    outputs: tuple[str, ...]


PROMPT, TRIES = ("Prompt", "value", "prompt"), ("EmptyLatentImage", "batch_size", "how many tries")
KEPT = ("LatentCLIP_Select", "k", "how many are kept")
APPS = {
    "Mini 1 Score and choose": App(
        (PROMPT, TRIES, KEPT, ("KSampler", "seed", "seed")), ("The chosen two", "LatentCLIP_Select")
    ),
    "Mini 3 Safety gate": App(
        (
            PROMPT,
            TRIES,
            ("LatentCLIP_SafetyPolicy", "strictness", "how strict"),
            ("KSampler", "seed", "seed"),
        ),
        ("Safe pictures", "LatentCLIP_SafetyGate"),
    ),
    "Mini 11 Own taste": App(
        (
            ("Liked: a dark ground", "text", "liked"),
            ("Disliked: a white one", "text", "disliked"),
            ("New, of every ground", "text", "new"),
            KEPT,
            ("3: New, of every ground", "seed", "seed of the new"),
        ),
        ("Chosen by taste", "LatentCLIP_Select"),
    ),
}


def named(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    """The one node that has this title, or this type and no title."""
    (found,) = [node for node in workflow["nodes"] if node.get("title", node["type"]) == name]
    return found


def as_app(name: str, workflow: dict[str, Any], app: App) -> dict[str, Any]:
    made = deepcopy(workflow)
    inputs = []
    for title, widget, label in app.inputs:
        node = named(made, title)
        (socket,) = [socket for socket in node["inputs"] if socket["name"] == widget]
        socket["label"] = label
        inputs.append([node["id"], widget])
    made["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"latent-clip/{name}{SUFFIX}"))
    outputs = [named(made, title)["id"] for title in app.outputs]
    made["extra"].update(linearMode=True, linearData={"inputs": inputs, "outputs": outputs})
    return made


def apps(made: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The app of each workflow that has one, by its file's name without .json."""
    return {f"{name}{SUFFIX}": as_app(name, made[name], app) for name, app in APPS.items()}
