"""Distillation of the mini world's Latent-CLIP: it reads in latents what the pixel CLIP reads in pixels.

captions, noise -> generator -> latents --+-> decode -> pixel CLIP -> embedding
drawn pictures ------> encode -> latents -+-> image tower ----------> embedding, to be the same

Text tower and logit scale are the pixel CLIP's. No caption tells the image tower what is right, so it can
also learn from latents that no caption fits, above all from those that ReNO finds by climbing the tower's own
gradient: where it errs in its own favour the search goes, and there it is corrected. That is in the manner
of DAgger (Ross et al. 2011, arXiv 1011.0686), the pixel CLIP being the expert. Unlike there nothing is
aggregated: each batch is what the tower of that step leads to, and is learnt from once; new ones cost little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..model.latent_clip import LatentCLIP
from ..reno.maths import NesterovSGD, loss_gradient
from ..reno.types import ReNOSettings
from ..training.loop import FitSettings, fit
from ..training.losses import distillation_loss
from .captions import CaptionReward
from .cycles import Cycle
from .scenes import caption, phrase, random_content
from .train_clip import CONFIG, adversarial_examples, noisy, speak
from .world import World


@dataclass(frozen=True)
class DistillationCycle(Cycle):
    """A cycle on what the teacher says.

    drawn, generated: latents of these kinds in a batch, besides SEARCHED of searches. searched_from: step
    from which there are searches and adversarial examples; until then the image tower's gradient leads
    nowhere, and generated latents take the place of searched ones. Other numbers were not tried.
    """

    drawn: int
    generated: int
    searched_from: int = 0


SETTINGS = FitSettings(
    steps=2000, learning_rate=2e-3, ema_decay=0.99, seed=2, weight_decay=0.05, optimizer="muon"
)
# A warm restart from the averaged weights (Loshchilov and Hutter 2017), with more drawn pictures: they vary
# most, and take longest to learn.
SECOND_CYCLE = replace(SETTINGS, steps=600, learning_rate=1e-3, seed=4)
CYCLES = (
    DistillationCycle(SETTINGS, drawn=40, generated=40, searched_from=700),
    DistillationCycle(SECOND_CYCLE, drawn=120, generated=40),
)
SEARCHED = 40  # searches that a batch takes one iteration on
SEARCHES = 6 * SEARCHED  # kept at work
RENO = ReNOSettings()  # the published search
LATENT_NOISE = 0.6  # largest std of the noise on raw latents: twice the width of the VAE's posterior
# Largest rms of an adversarial change, in raw latents. Twice or three times as much cost a Latent-CLIP of
# this size that was trained with captions 2 to 4 points of retrieval, and ReNO gained no more.
EPSILON = 0.4
PICTURES_SEED, NAMELESS = 22, 0.5  # of the drawn pictures: those of the pixel CLIP's second cycle


@dataclass(frozen=True)
class Lesson:
    """One batch. Latents are raw and clean."""

    latents: Tensor  # [B, 4, 8, 8], B = drawn + generated
    texts: Tensor | None  # [B, D], what these latents are moved towards; None before there are searches
    searched: Tensor  # [SEARCHED, 4, 8, 8], taken as they are


class Lessons:
    """Batches for `fit`: encoded and generated latents, and ReNO's searches by the model in training.

    Every batch takes SEARCHED of the searches one iteration on, by the published update. A search that has
    had its iterations makes way for another caption and noise. All begin new, and they end at different
    visits, so that a batch comes to hold nearly every age.
    """

    def __init__(self, world: World, encoded: Tensor, cycle: DistillationCycle):
        """world: its latent_clip is in training. encoded: raw latents [N, 4, 8, 8] of drawn pictures."""
        self.world, self.encoded, self.cycle = world, encoded, cycle
        rng = np.random.default_rng(cycle.settings.seed)
        self.captions = draw_captions(rng, SEARCHES)
        self.noise = draw_noise(rng, (SEARCHES, *encoded.shape[1:]))
        self.velocity = torch.zeros_like(self.noise)

    def batch(self, step: int) -> Lesson:
        """The lesson of a step; its random numbers are the step's own."""
        cycle = self.cycle
        rng = np.random.default_rng([cycle.settings.seed, step])
        drawn = self.encoded[torch.from_numpy(rng.integers(len(self.encoded), size=cycle.drawn))]
        latents = torch.cat([drawn, self._generate(cycle.generated, rng)])
        turn = step - cycle.searched_from
        if turn < 0:
            return Lesson(latents, None, self._generate(SEARCHED, rng))
        with torch.no_grad():
            texts = self.world.latent_clip.encode_text(draw_captions(rng, len(latents)))
        return Lesson(latents, texts, self._search(turn, rng))

    def state(self) -> dict[str, Any]:
        """Where the searches are, and whose they are."""
        return {
            "captions": self.captions,
            "noise": self.noise,
            "velocity": self.velocity,
            "plan": self._plan(),
        }

    def restore(self, states: list[Any], step: int) -> None:
        """Take the searches up again; only one rank trains the mini world. ValueError for another cycle's."""
        (state,) = states
        if (plan := state.get("plan")) != self._plan():
            raise ValueError(
                f"the checkpoint was begun with drawn, generated, searched_from {plan}; expected "
                f"{self._plan()}. Pass the same, or begin elsewhere with --work"
            )
        self.captions = list(state["captions"])
        self.noise, self.velocity = state["noise"].clone(), state["velocity"].clone()

    def _plan(self) -> list[int]:
        return [self.cycle.drawn, self.cycle.generated, self.cycle.searched_from]

    @torch.no_grad()
    def _generate(self, number: int, rng: np.random.Generator) -> Tensor:
        noise = draw_noise(rng, (number, *self.noise.shape[1:]))
        return self.world.generate(draw_captions(rng, number), noise)

    def _search(self, turn: int, rng: np.random.Generator) -> Tensor:
        """Latents [SEARCHED, 4, 8, 8] of some searches, which then go one iteration on."""
        visit, part = divmod(turn, SEARCHES // SEARCHED)
        rows = range(part * SEARCHED, (part + 1) * SEARCHED)
        for row in rows:
            if (visit + row) % RENO.iterations == 0:
                (self.captions[row],) = draw_captions(rng, 1)
                self.noise[row] = draw_noise(rng, self.noise.shape[1:])
                self.velocity[row] = 0.0
        chosen = slice(rows.start, rows.stop)
        noise = self.noise[chosen].clone().requires_grad_(True)
        captions = self.captions[chosen]
        latents = self.world.generate(captions, noise)
        reward = CaptionReward(self.world.latent_clip, captions)(latents)
        (uphill,) = torch.autograd.grad(reward.sum(), noise)
        noise = noise.detach()
        gradient = loss_gradient(noise, uphill, RENO.regularization, RENO.grad_clip)
        optimizer = NesterovSGD(RENO.learning_rate, RENO.momentum, RENO.nesterov)
        optimizer.velocity = self.velocity[chosen]
        self.noise[chosen] = optimizer.step(noise, gradient)
        self.velocity[chosen] = cast(Tensor, optimizer.velocity)
        return latents.detach()


def draw_noise(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Standard normal noise."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def draw_captions(rng: np.random.Generator, number: int) -> list[str]:
    """Captions that say all or less; nothing held out is among them."""
    return [phrase(caption(speak(random_content(rng, "train"), rng)[0]), rng) for _ in range(number)]


def new_student(teacher: LatentCLIP) -> LatentCLIP:
    """A Latent-CLIP with the teacher's text tower and logit scale, frozen, and an untrained image tower."""
    torch.manual_seed(SETTINGS.seed)
    student = LatentCLIP(CONFIG, tokenizer=teacher.tokenizer)
    kept = {name: value for name, value in teacher.state_dict().items() if _is_text(name)}
    student.load_state_dict(student.state_dict() | kept)
    student.requires_grad_(False)
    student.visual.requires_grad_(True)
    return student


def _is_text(name: str) -> bool:
    """Whether a weight is of the text tower, or the logit scale."""
    return not name.startswith("visual.")


def train_latent_clip(world: World, encoded: Tensor, work: Path, steps: int | None = None) -> LatentCLIP:
    """Distil the Latent-CLIP; keeps resumable checkpoints under `work`.

    world: its latent_clip, from `new_student`, is trained; its pixel_clip teaches. encoded: raw latents
    [N, 4, 8, 8] of drawn pictures. ValueError for checkpoints of another teacher or other settings.
    """
    student = world.latent_clip
    frozen = {name: value.clone() for name, value in student.state_dict().items() if _is_text(name)}

    def loss_of(lesson: Lesson) -> Tensor:
        latents = noisy(lesson.latents, LATENT_NOISE)
        if lesson.texts is not None:
            texts = lesson.texts
            latents = adversarial_examples(
                latents, lambda changed: (student.encode_latents(changed) * texts).sum(), EPSILON
            )
        latents = torch.cat([latents, lesson.searched])
        with torch.no_grad():
            taught = world.pixel_clip.encode_latents(world.decode(latents))
        return distillation_loss(student.encode_latents(latents), taught)

    for number, cycle in enumerate(CYCLES):
        lessons, file = Lessons(world, encoded, cycle), work / f"latent_clip_{number}.pt"
        average = fit(student, loss_of, cycle.settings.shortened(steps), file, batches=lessons)
        learnt = average.state_dict()
        student.load_state_dict(learnt)
        if not all(torch.equal(value, learnt[name]) for name, value in frozen.items()):
            raise ValueError(
                f"{file} was begun with another pixel CLIP; expected this one's text tower in it. Begin "
                "elsewhere with --work, or remove the file"
            )
    return student.eval().requires_grad_(False)
