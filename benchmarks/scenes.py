"""What the mini-world sections share: test scenes, their latents, truth by the oracle, 100-way groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lclip.mini.drawing import render, sample_scenes
from lclip.mini.oracle import Judgement, judge
from lclip.mini.scenes import Scene, canonical, caption
from lclip.mini.world import ALONE, WEIGHTS, World, load_latent_clip, load_world
from lclip.model.latent_clip import LatentCLIP

WAYS = 100
CHUNK = 200  # pictures per pass of a model
LATENT, TEACHERLESS, PIXEL = "Latent-CLIP", "Latent-CLIP, no teacher", "decode + pixel CLIP"


def world_for_cpu() -> World:
    """The mini world, its VAE in the memory layout that convolutions on a CPU are fastest in."""
    world = load_world()
    world.vae.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return world


def readers(world: World) -> dict[str, LatentCLIP]:
    """Every CLIP of the mini world by its title; that of `PIXEL` reads decoded latents."""
    alone = load_latent_clip(WEIGHTS / ALONE)
    return {LATENT: world.latent_clip, TEACHERLESS: alone, PIXEL: world.pixel_clip}


def to_pixels(pictures: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] -> [N, 3, H, W] in 0..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255.0


def in_chunks(function: Callable[[Tensor], Tensor], items: Tensor, size: int = CHUNK) -> Tensor:
    """Apply a function over the batch, some items at a time, without gradient."""
    with torch.no_grad():
        return torch.cat([function(part) for part in items.split(size)])


def encode_scenes(world: World, scenes: Sequence[Scene], width: int = 64, height: int = 64) -> Tensor:
    """Raw latents of drawn scenes."""
    pictures = np.stack([render(scene, width, height) for scene in scenes])
    return in_chunks(world.encode, to_pixels(pictures))


def generate(world: World, prompts: Sequence[str], noise: Tensor, steps: int = 1) -> Tensor:
    """Raw latents of one prompt per noise."""
    parts = []
    with torch.no_grad():
        for first in range(0, len(noise), CHUNK):
            last = first + CHUNK
            parts.append(world.generate(prompts[first:last], noise[first:last], steps))
    return torch.cat(parts)


def judge_latents(world: World, latents: Tensor, scenes: Sequence[Scene]) -> list[Judgement]:
    """The oracle's verdict on the decoded latents."""
    pixels = in_chunks(world.decode, latents).permute(0, 2, 3, 1).numpy()
    return [judge(picture, scene) for picture, scene in zip(pixels, scenes, strict=True)]


def noise_for(number: int, seed: int) -> Tensor:
    """N(0, I) noise of the mini world's size."""
    return torch.randn(number, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def hundred_way_groups(groups: int, seed: int, ways: int = WAYS) -> list[Scene]:
    """groups x ways test scenes; within a group no two captions say the same."""
    scenes: list[Scene] = []
    for group in range(groups):
        chosen: dict[str, Scene] = {}
        for scene in sample_scenes(40 * ways, seed * 1000 + group, split="test"):
            chosen.setdefault(caption(canonical(scene.content)), scene)
            if len(chosen) == ways:
                break
        scenes += list(chosen.values())
    return scenes


def retrieval_hits(images: Tensor, texts: Tensor, ways: int = WAYS) -> np.ndarray:
    """Whether each picture finds its own caption among its group's: bool [N]."""
    hits = []
    for first in range(0, len(images), ways):
        cosine = images[first : first + ways] @ texts[first : first + ways].T
        hits.append(cosine.argmax(1) == torch.arange(len(cosine)))
    return torch.cat(hits).numpy()
