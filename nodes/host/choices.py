"""What widgets let one choose, by name: apart from the work, so that a node's sockets can be asked for before
anything of the work is imported."""

from __future__ import annotations

import re

import comfy.samplers

COMMAS = re.compile("[,;，；、]")  # Chinese keyboards have their own
SAMPLERS: list[str] = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS: list[str] = comfy.samplers.KSampler.SCHEDULERS
"""The host's own lists: other packs add to them, some of them after this one was loaded."""
CHECKPOINTING = ("auto", "on", "off")

NATIVE = "SDXL (native)"
LATENTS: dict[str, str | None] = {
    NATIVE: None,
    "FLUX.1 · Z-Image · Chroma": "flux",
    "FLUX.2": "flux2",
    "SD3.5": "sd3",
    "SD1.5": "sd1.5",
}
"""What *Load Latent-CLIP* offers: latents by the names of the models that make them, read through the adapter
that is shipped for their space."""
SHIPPED = {title: space for title, space in LATENTS.items() if space is not None}
"""Titles of the adapters that come with the pack, and the spaces that they read."""

ACTIONS = ("separate", "replace", "repair", "stop")
"""What the gate does with unsafe latents."""
SLIDES = ("auto", "noise", "guidance")
"""How a slider makes its series."""
CORNER_KINDS = ("prompt", "latent", "noise")
"""What a corner of a map can be."""


def parted(text: str) -> list[str]:
    """The parts of a list in a widget, between commas of any keyboard; empty ones are left out."""
    return [part.strip() for part in COMMAS.split(text) if part.strip()]
