"""The widgets by which nodes are told what is told apart in a batch, and in which shares it is wanted."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io


def concepts_input(tooltip: str = "") -> Any:
    """What is told apart."""
    several = (
        "What is told apart. One question a line, its concepts parted by |, such as a cat | a dog; or one "
        "concept a line, where there is no |."
    )
    return io.String.Input("concepts", multiline=True, default="", tooltip=tooltip or several)


def target_input(tooltip: str = "") -> Any:
    """The shares that are wanted."""
    several = (
        "The shares that are wanted, such as 0.5 | 0.5, one line for every question or a line for each. "
        "Empty, the default: all alike."
    )
    return io.String.Input("target", default="", optional=True, tooltip=tooltip or several)


def margin_input() -> Any:
    """From when on an item is clear."""
    return io.Float.Input(
        "margin",
        default=0.1,
        min=0.0,
        max=0.99,
        step=0.01,
        optional=True,
        tooltip="By how much in probability the likeliest must lead, 0 to 0.99; else the item is unclear. "
        "0.1 by default.",
    )
