"""Nodes of earlier releases that are no more, and what takes their place in saved workflows.

A node whose inputs or outputs are put elsewhere, renamed or taken away is a new node under a new id, for
workflows keep the values of widgets by their place. Its row in REPLACED tells the host how the old becomes
the new. Hosts since February 2026 take that; older ones say that the node is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Replacement:
    """One node for another.

    old: an id that no node has any more. widgets: what the old node's widgets were called, in their order.
    inputs: pairs of the new input and the old one. values: pairs of a new input that the old node had not
    and its value. outputs: pairs of the new place and the old one, from 0.
    """

    new: str
    old: str
    widgets: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, Any], ...] = ()
    outputs: tuple[tuple[int, int], ...] = ()

    def settings(self) -> dict[str, Any]:
        """As the host's NodeReplace takes it."""
        carried = [{"new_id": new, "old_id": old} for new, old in self.inputs]
        return {
            "new_node_id": self.new,
            "old_node_id": self.old,
            "old_widget_ids": list(self.widgets),
            "input_mapping": carried + [{"new_id": new, "set_value": value} for new, value in self.values],
            "output_mapping": [{"new_idx": new, "old_idx": old} for new, old in self.outputs],
        }


REPLACED: tuple[Replacement, ...] = ()
"""Every node that a release has replaced: none so far."""


async def register(replaced: Sequence[Replacement] = REPLACED) -> bool:
    """Tell the host of them; whether it takes such."""
    from comfy_api.latest import ComfyAPI, io

    if (place := getattr(ComfyAPI(), "node_replacement", None)) is None:
        return False
    for each in replaced:
        await place.register(io.NodeReplace(**each.settings()))
    return True
