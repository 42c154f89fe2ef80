"""What a variety reward does to batches of one caption: how far apart they are, and how many are right."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lclip import VarietyReward, diversity, guided_x0
from lclip.mini import World
from lclip.mini.drawing import sample_scenes
from lclip.mini.scenes import Scene
from lclip.statistics import bootstrap

from .harness import Run, table
from .scenes import judge_latents, noise_for, world_for_cpu

STEPS, BATCH = 20, 6
STRENGTHS = (0.0, 0.02, 0.05, 0.1)


def variety(run: Run) -> str:
    """Distance within a batch and oracle accuracy, plain and at three strengths, from the same noises."""
    world, scenes = world_for_cpu(), sample_scenes(run.choose(40, 2), 771, split="test")
    found: dict[float, np.ndarray] = {}  # strength -> [captions, figures]
    for strength in STRENGTHS:
        run.say(f"strength {strength}")
        found[strength] = run.part(
            str(strength), lambda strength=strength: {"all": _figures(run, world, scenes, strength)}
        )["all"]
    rows = []
    for strength, values in found.items():
        over = values - found[0.0]
        rows.append(
            (
                strength or "0 (plain)",
                bootstrap(values[:, 0]).text(digits=3),
                bootstrap(values[:, 1]).text(digits=3),
                bootstrap(values[:, 2]).percent(),
                "" if strength == 0 else bootstrap(over[:, 2]).text(100, 1),
            )
        )
    return (
        f"{STEPS} Euler steps, guided by `VarietyReward` alone at every step; {len(scenes)} test "
        f"captions, batches of {BATCH}. Distance: mean of 1 - cosine over the pairs of a batch, by the "
        "Latent-CLIP that guides and by the pixel CLIP on the decoded pictures.\n\n"
        + table(
            (
                "strength",
                "distance, Latent-CLIP",
                "distance, pixel CLIP",
                "all correct",
                "over plain, points",
            ),
            rows,
        )
    )


def _figures(run: Run, world: World, scenes: list[Scene], strength: float) -> np.ndarray:
    return np.array([_batch(run, world, scene, 772 + n, strength) for n, scene in enumerate(scenes)])


def _batch(run: Run, world: World, scene: Scene, seed: int, strength: float) -> tuple[float, float, float]:
    """One caption's batch: its distance by either model, and the share that is right."""
    reward = VarietyReward(world.latent_clip)

    def move(x0: Tensor) -> Tensor:
        return guided_x0(x0, reward, strength, to_raw=world.latent_format.to_raw)

    with torch.no_grad():
        noise = noise_for(BATCH, seed)
        made = world.generate([scene.caption], noise, run.choose(STEPS, 3), move if strength else None)
        seen = judge_latents(world, made, [scene] * BATCH)
        latent = diversity(world.latent_clip.encode_latents(made))
        pixel = diversity(world.pixel_clip.encode_latents(world.decode(made)))
    return latent, pixel, float(np.mean([item.correct for item in seen]))
