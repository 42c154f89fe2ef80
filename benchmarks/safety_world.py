"""What the safety sections share: prompts, what the oracle sees, and the methods that lower the unsafe
rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lclip import SafetyJudge, SafetyPolicy, SafetyReward, reno
from lclip.latents.items import per_item
from lclip.latents.neutral import neutral_latents
from lclip.mini import World
from lclip.mini.drawing import sample_scenes
from lclip.mini.oracle import shows_unsafe
from lclip.mini.scenes import Scene
from lclip.reno.guidance import guided_x0
from lclip.reno.types import ReNOSettings
from lclip.safety.repair import HEADROOM as ROOMY
from lclip.safety.repair import believed
from lclip.safety.reward import HEADROOM

from .harness import Run
from .scenes import generate, in_chunks, noise_for, world_for_cpu

CHUNK = 100
REPAIR, AWAY = 30, 50  # ReNO iterations
STEPS, STEER = 20, 0.1


def scenes_that(wanted: Callable[[Scene], bool], number: int, seed: int) -> list[Scene]:
    """The first test scenes of a draw that are wanted."""
    found: list[Scene] = []
    for part in range(100):
        found += [s for s in sample_scenes(4 * number, seed * 100 + part, split="test") if wanted(s)]
        if len(found) >= number:
            return found[:number]
    raise ValueError(f"only {len(found)} scenes are as wanted; expected {number}")


def asks_for_harm(scene: Scene) -> bool:
    return scene.content.unsafe


def is_harmless(scene: Scene) -> bool:
    return not scene.content.unsafe


def pictures_of(world: World, latents: Tensor) -> np.ndarray:
    """[N, 64, 64, 3] in 0..1."""
    return in_chunks(world.decode, latents).permute(0, 2, 3, 1).numpy()


def truth(world: World, latents: Tensor) -> np.ndarray:
    """Whether the oracle sees the unsafe shape: bool [N]."""
    return np.array([shows_unsafe(picture) for picture in pictures_of(world, latents)])


@dataclass
class Group:
    """Prompts with one noise each, and the mini world's policy."""

    world: World
    scenes: list[Scene]
    noise: Tensor
    policy: SafetyPolicy

    def parts(self) -> list[slice]:
        return [slice(first, first + CHUNK) for first in range(0, len(self.scenes), CHUNK)]

    def split(self) -> list[Group]:
        """The same as groups of one chunk each."""
        return [replace(self, scenes=self.scenes[part], noise=self.noise[part]) for part in self.parts()]

    def captions(self, part: slice | Sequence[int]) -> list[str]:
        chosen = self.scenes[part] if isinstance(part, slice) else [self.scenes[i] for i in part]
        return [scene.caption for scene in chosen]

    def plain(self, steps: int = 1) -> Tensor:
        return generate(self.world, self.captions(slice(None)), self.noise, steps)

    def away(self, indices: list[int], iterations: int, repair: bool = False) -> Tensor:
        """ReNO on the safety reward, from the items' own noises; a repair stops once it is safe enough."""
        reward = SafetyReward(self.policy, self.world.latent_clip, headroom=ROOMY if repair else HEADROOM)
        settings = ReNOSettings(iterations=iterations, target=reward.target if repair else None)
        found = []
        for first in range(0, len(indices), CHUNK):
            some = indices[first : first + CHUNK]
            generator = self.world.generator(self.captions(some))
            found.append(reno(generator, self.noise[some], reward, settings).best_latents)
        return torch.cat(found)

    def steered(self, strength: float = STEER, steps: int = STEPS) -> Tensor:
        """Many steps, each moved by the policy where it lies above the threshold, as the guard does it."""
        reward = SafetyReward(self.policy, self.world.latent_clip, only_unsafe=True)
        return torch.cat([self._steered(part, reward, strength, steps) for part in self.parts()])

    def _steered(self, part: slice, reward: SafetyReward, strength: float, steps: int) -> Tensor:
        def move(x0: Tensor) -> Tensor:
            return guided_x0(x0, reward, strength, lambda z: z / self.world.scale_factor)

        with torch.no_grad():
            return self.world.generate(self.captions(part), self.noise[part], steps, move)

    def gated(self, latents: Tensor) -> tuple[Tensor, np.ndarray]:
        """What the gate's replace gives: latents with grey in place of blocked ones, and which those are."""
        blocked = [not verdict.safe for verdict in SafetyJudge(self.policy, self.world.latent_clip)(latents)]
        return _greyed(latents, np.array(blocked))

    def repaired(self, latents: Tensor) -> tuple[Tensor, np.ndarray]:
        """What the gate's repair gives: latents with grey where it failed, and which items are grey."""
        judge = SafetyJudge(self.policy, self.world.latent_clip)
        grey = np.array([not verdict.safe for verdict in judge(latents)])
        if not grey.any():
            return latents, grey
        blocked = np.nonzero(grey)[0].tolist()
        found = self.away(blocked, REPAIR, repair=True)
        result = latents.clone()
        result[blocked] = found
        grey[blocked] = [not passed for passed in believed(judge, found)]
        return _greyed(result, grey)


def _greyed(latents: Tensor, grey: np.ndarray) -> tuple[Tensor, np.ndarray]:
    plain = neutral_latents("mini", latents.shape)
    return torch.where(per_item(torch.from_numpy(grey), latents), plain, latents), grey


def draw_group(run: Run, wanted: Callable[[Scene], bool], seed: int) -> Group:
    number = run.choose(1000, 12)
    policy = SafetyPolicy.preset("mini").changed(model=None)
    return Group(world_for_cpu(), scenes_that(wanted, number, seed), noise_for(number, seed + 1), policy)
