"""`python -m lclip explore --mini`: maps between seeds and prompts of the mini world, as one page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..exploring.blending import Corners, LinearCorners, SphericalCorners
from ..exploring.explore import ExploredMap, explore
from ..exploring.page import write_page
from ..exploring.plan import AUTO, NONE, Axis, axes_of
from .world import World, generate_from

AT_ONCE = 32


def corners_of(world: World, seeds: Sequence[int], prompts: Sequence[str]) -> list[Corners]:
    """Noise as ComfyUI draws it from seeds, and prompts as the world's model reads them."""
    kinds: list[Corners] = [LinearCorners("prompt", [world.context([prompt], 1)[0] for prompt in prompts])]
    return [*kinds, SphericalCorners("noise", [_noise(seed) for seed in seeds])]


def _noise(seed: int) -> Tensor:
    if not 0 <= seed < 2**64:
        raise ValueError(f"the seed is {seed}; expected 0 to 2^64 - 1")
    return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed))


def pairs_of(axes: Sequence[Axis]) -> list[tuple[str, str]]:
    """Every two axes; of one alone a row."""
    names = [axis.name for axis in axes]
    return list(combinations(names, 2)) or [(name, NONE) for name in names] or [(AUTO, AUTO)]


def explore_world(
    world: World,
    kinds: Sequence[Corners],
    texts: Sequence[str],
    axes: tuple[str, str],
    side: int = 6,
    elsewhere: str = "",
    level: float | None = None,
    steps: int = 1,
) -> ExploredMap:
    """One map of the mini world's pictures. ValueError as of `explore`."""

    def render(cells: list[dict[str, Any]]) -> Tensor:
        noise, context = (torch.stack([cell[kind] for cell in cells]) for kind in ("noise", "prompt"))
        with torch.no_grad():
            return world.latent_format.to_raw(generate_from(world.denoiser, context, noise, steps))

    return explore(render, kinds, world.latent_clip, texts, side, *axes, elsewhere, level, AT_ONCE)


def write_explored(
    world: World,
    seeds: Sequence[int],
    prompts: Sequence[str],
    texts: Sequence[str],
    path: Path,
    **settings: Any,
) -> list[ExploredMap]:
    """The page of maps between these corners. axes: the two to show; None: every two that there are."""
    kinds, axes = corners_of(world, seeds, prompts), settings.pop("axes", None)
    pairs = [axes] if axes else pairs_of(axes_of(kinds))
    maps = [explore_world(world, kinds, texts, pair, **settings) for pair in pairs]
    with torch.no_grad():
        pictures = [world.decode(found.latents) for found in maps]
    corners = [f"noise {number}: seed {seed}" for number, seed in enumerate(seeds, 1)]
    corners += [f"prompt {number}: {prompt}" for number, prompt in enumerate(prompts, 1)]
    write_page(
        maps,
        pictures,
        path,
        "What lies between",
        f"{' · '.join(prompts)}. Each cell is a picture of the mini world: its noise lies on arcs between "
        "the seeds', its prompt on straight lines between the prompts. Its Latent-CLIP gives the scores.",
        corners,
        "Made by python -m lclip explore --mini",
    )
    return maps
