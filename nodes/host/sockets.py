"""Wire types, and parts of a node's schema that hosts of different age take differently."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

LATENT_CLIP = io.Custom("LATENT_CLIP")
LATENT_ADAPTER = io.Custom("LATENT_ADAPTER")
LATENT_REWARD = io.Custom("LATENT_REWARD")
LATENT_SAFETY_POLICY = io.Custom("LATENT_SAFETY_POLICY")

REWARD_HINT = "What is good: wire a Text Reward, or several chained. Higher is better."
PLACES_HINT = "Which candidate every latent is, from 0; 0 has your own seed."
CHECKS_HINT = (
    "Every check of the race as JSON: step (0: the drafts), steps, and for every item and candidate its "
    "reward (null: out, or no number) and whether it was kept."
)

_SCHEMA_FIELDS = {field.name for field in fields(io.Schema)}


def schema(**settings: Any) -> io.Schema:
    """A node's schema, without the entries that an older host does not know (search aliases)."""
    return io.Schema(**{name: value for name, value in settings.items() if name in _SCHEMA_FIELDS})


def advanced(socket: Any) -> Any:
    """Mark an input as a rare knob. Older hosts take no such argument, but pass on extra entries."""
    if hasattr(socket, "advanced"):
        socket.advanced = True
    else:
        socket.extra_dict = {**socket.extra_dict, "advanced": True}
    return socket


def switch(name: str, tooltip: str, default: bool = False) -> Any:
    """A switch for the widget that follows it: off, that one does not count."""
    return io.Boolean.Input(name, default=default, label_on="on", label_off="off", tooltip=tooltip)


def show_input(rest: str = "") -> Any:
    """The switch for the picture that a node draws on itself; every such node has it last. rest: what else
    is to be said of it."""
    tooltip = "on, the default: the node shows a picture of its result. off: it draws none, which is faster."
    return advanced(
        io.Boolean.Input(
            "show", default=True, optional=True, label_on="on", label_off="off", tooltip=tooltip + rest
        )
    )


def nothing() -> ExecutionBlocker:
    """An output without a value: what hangs on that socket is skipped, silently."""
    return ExecutionBlocker(None)


def weight_input(tooltip: str) -> Any:
    """How much a reward counts in a sum; a negative weight drives away."""
    return io.Float.Input("weight", default=1.0, min=-100.0, max=100.0, step=0.05, tooltip=tooltip)


def add_to_input() -> Any:
    """The socket by which rewards are chained; every reward node has it last."""
    return LATENT_REWARD.Input(
        "add_to", optional=True, tooltip="A reward that this one is added to. Leave open for the first."
    )


def reward_output() -> Any:
    return LATENT_REWARD.Output(display_name="reward", tooltip="This reward, plus what it is added to.")
