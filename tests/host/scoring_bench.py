"""Shared by the tests of nodes that read latents: smooth latents as files, and nodes around them."""

from __future__ import annotations

import numpy
import torch

TEXTS = ["a red circle", "a large blue square on a black ground"]


def smooth(shape: tuple[int, ...], seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(*shape[:2], 4, 4, generator=generator) * 9
    return torch.nn.functional.interpolate(coarse, shape[2:], mode="bicubic")


def write_latents(host, name: str, samples: torch.Tensor, **more) -> torch.Tensor:
    numpy.savez(host.input / f"{name}.npz", samples=samples.numpy(), **more)
    return samples


def read(graph, name: str = "latents"):
    return graph.add("Probe_ReadLatent", name=name)[0]


def dumped(host, name: str) -> dict[str, numpy.ndarray]:
    with numpy.load(host.output / f"{name}.npz") as arrays:
        return dict(arrays)


def score(graph, text: str, latent=None, **widgets):
    world = graph.add("LatentCLIP_MiniWorld")
    inputs = {"text": text, **widgets}
    return graph.add("LatentCLIP_Score", latent_clip=world[3], latent=latent or read(graph), **inputs)


def reward(graph, text: str, weight: float = 1.0, **more):
    world = graph.add("LatentCLIP_MiniWorld")
    return graph.add("LatentCLIP_TextReward", latent_clip=world[3], text=text, weight=weight, **more)


def select(graph, k: int, text: str = TEXTS[0], latent=None):
    return graph.add("LatentCLIP_Select", latent=latent or read(graph), reward=reward(graph, text)[0], k=k)
