"""Reward guidance and the safety guard as callbacks at the end of a step.

    pipe(prompt, callback_on_step_end=RewardGuidance(pipe, reward, 0.1))

A callback comes after a step. So the first step of a pipeline is made without it, and then it moves what the
scheduler is told the model predicts in every later one (see `steps`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.callbacks import PipelineCallback
from torch import Tensor

from ..latents.items import per_item
from ..model.latent_clip import LatentCLIP
from ..reno.guidance import guided_x0
from ..rewards.rewards import Reward
from ..safety.judge import SafetyJudge, Verdict
from ..safety.policy import PolicyData
from ..safety.reward import SafetyReward
from .latents import PipelineLatents, check_reads
from .steps import Steps

logger = logging.getLogger("latent-clip")


class StepCallback(PipelineCallback):
    """Looks at every predicted x0 of a pipeline's run, and may move it. Several go together in diffusers'
    MultiPipelineCallbacks.

    start, end: the part of the steps, as shares. ValueError for a pipeline or scheduler that is not known.
    """

    @property
    def tensor_inputs(self) -> list[str]:
        return ["latents"]

    def __init__(self, latents: PipelineLatents, start: float, end: float) -> None:
        super().__init__()
        check_part(start, end)
        self.latents, self.start, self.end = latents, start, end
        self.step = 0

    def move(self, x0: Tensor) -> Tensor:
        """Predicted clean latents, as the pipeline has them -> as they shall be."""
        raise NotImplementedError

    def finish(self, pipe: Any, latents: Tensor) -> Tensor:
        """What the pipeline goes on with after a step, as it has it."""
        return latents

    def callback_fn(
        self, pipeline: Any, step_index: int, timesteps: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Called by the pipeline at the end of a step."""
        self.step, steps = step_index + 1, pipeline.num_timesteps
        callback_kwargs["latents"] = self.finish(pipeline, callback_kwargs["latents"])
        installed = Steps.of(pipeline.scheduler)
        if self.step < steps and self.start <= self.step / steps <= self.end:
            installed.add(self, self.move)
        else:
            installed.remove(self)
        return callback_kwargs


def check_part(start: float, end: float) -> None:
    """ValueError for what is no part of the steps."""
    if not 0 <= start <= end <= 1:
        raise ValueError(f"it starts at {start} and ends at {end}; expected 0 <= start <= end <= 1")


class RewardGuidance(StepCallback):
    """Guidance by a reward: every predicted x0 moves along its gradient (see `lclip.guided_x0`).

    reward: of clean raw latents of the pipeline's space. strength: of the move, relative to x0. start, end:
    the part of the steps, as shares; the first step is never guided. space: for a VAE that does not say it.
    height, width: of the pictures, where packed latents are not to be read as the
    pipeline is called. The same steps as in ComfyUI's node Latent-CLIP
    Guidance.
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
    ) -> None:
        super().__init__(PipelineLatents.of(pipe, space, height, width), start, end)
        check_reads(reward, self.latents)
        self.reward, self.strength = reward, strength

    def move(self, x0: Tensor) -> Tensor:
        return guided_by(self.latents, x0, self.reward, self.strength) if self.strength else x0


def guided_by(latents: PipelineLatents, x0: Tensor, reward: Reward, strength: float) -> Tensor:
    """x0 in a pipeline's form, moved along the gradient of a reward of raw latents."""
    return guided_x0(x0, reward, strength, latents.to_raw)


class SafetyGuard(StepCallback):
    """Judges what a pipeline is about to show.

    on_unsafe: "steer" moves every predicted x0 that is beyond a threshold along the policy's gradient.
    "stop" lets nothing unsafe out: what is unsafe in the part of the steps, or at the end, is a grey picture
    from that step on, and the pipeline stops sampling where nothing else is left. `verdicts` is what was said
    in this run: of what is stopped, at once; of every item, at the end. A run that others interrupt has no
    end, so only what was stopped is told.
    """

    def __init__(
        self,
        pipe: Any,
        policy: PolicyData,
        model: LatentCLIP | Sequence[LatentCLIP],
        on_unsafe: str = "stop",
        strength: float = 0.1,
        start: float = 0.3,
        end: float = 1.0,
        space: str | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__(PipelineLatents.of(pipe, space, height, width), start, end)
        if on_unsafe not in ("steer", "stop"):
            raise ValueError(f"on_unsafe is {on_unsafe!r}; expected 'steer' or 'stop'")
        self.on_unsafe, self.strength = on_unsafe, strength
        self.early = SafetyJudge(policy, model, check_scale=False)
        check_reads(self.early, self.latents)
        self.judge = SafetyJudge(policy, model)
        self.reward = SafetyReward(policy, model, only_unsafe=True)
        self.verdicts: list[Verdict] = []
        self.stopped: dict[int, Verdict] = {}
        self._grey: Tensor | None = None

    def move(self, x0: Tensor) -> Tensor:
        if self.on_unsafe == "steer":
            return guided_by(self.latents, x0, self.reward, self.strength)
        self._note(self.early(self.latents.to_raw(x0)))
        return x0

    def finish(self, pipe: Any, latents: Tensor) -> Tensor:
        if self.step == 1:
            self.verdicts, self.stopped, self._grey = [], {}, None
        last = self.step >= pipe.num_timesteps
        if self.on_unsafe == "steer":
            self.verdicts = self.judge(self.latents.to_raw(latents)) if last else self.verdicts
            return latents
        said = self.judge(self.latents.to_raw(latents)) if last else []
        self._note(said)
        if not last and len(self.stopped) == len(latents):
            pipe._interrupt = True
            logger.warning("Safety guard: every item is unsafe; the pipeline ends here, with grey pictures.")
        told = {verdict.index: verdict for verdict in said} | self.stopped
        self.verdicts = [told[index] for index in sorted(told)]
        return self._greyed(latents) if self.stopped else latents

    def _note(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if not verdict.safe:
                self.stopped.setdefault(verdict.index, verdict)

    def _greyed(self, latents: Tensor) -> Tensor:
        """Grey in the place of what is unsafe; the sampler may go on from it, and it is put there again."""
        unsafe = torch.zeros(len(latents), dtype=torch.bool, device=latents.device)
        unsafe[list(self.stopped)] = True
        if self._grey is None:
            self._grey = self.latents.grey(self.latents.to_raw(latents))
        grey = self.latents.from_raw(self._grey, latents)
        return torch.where(per_item(unsafe, latents), grey, latents)
