"""Reward guidance as a guider of modular pipelines, on top of classifier-free guidance."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..rewards.rewards import Reward
from .callbacks import check_part, guided_by
from .latents import PipelineLatents, check_reads
from .steps import Steps

try:
    from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
except ImportError:  # diffusers before its guiders
    ClassifierFreeGuidance = None  # pyright: ignore[reportAssignmentType]

Base: Any = ClassifierFreeGuidance or object


class RewardGuider(Base):
    """Classifier-free guidance whose predicted x0 then moves along a reward's gradient.

        pipe.update_components(guider=RewardGuider(pipe, reward, 0.1, guidance_scale=5.0))

    A guider is told of every step before the model is asked: the first one is guided too. guidance_scale and
    what else diffusers' ClassifierFreeGuidance takes. start, end: the part of the steps in which the reward
    guides. ValueError where the installed diffusers has no guiders.
    """

    def __init__(
        self,
        pipe: Any,
        reward: Reward,
        strength: float = 0.1,
        start: float = 0.0,
        end: float = 1.0,
        space: str | None = None,
        height: int | None = None,
        width: int | None = None,
        **cfg: Any,
    ) -> None:
        if ClassifierFreeGuidance is None:
            raise ValueError(
                "the installed diffusers has no guiders; expected 0.36 or later, or RewardGuidance"
            )
        super().__init__(**cfg)
        check_part(start, end)
        self.latents = PipelineLatents.of(pipe, space, height, width)
        check_reads(reward, self.latents)
        self.pipe, self.reward, self.strength = pipe, reward, strength
        self.first, self.last = start, end

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Called by the pipeline before each step."""
        super().set_state(step, num_inference_steps, timestep)
        steps = Steps.of(self.pipe.scheduler)
        if self.strength and self.first <= step / num_inference_steps <= self.last:
            steps.add(self, self._move)
        else:
            steps.remove(self)

    def _move(self, x0: Tensor) -> Tensor:
        return guided_by(self.latents, x0, self.reward, self.strength)
