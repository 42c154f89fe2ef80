"""What a LATENT_SAFETY_POLICY wire carries: a policy, and the Latent-CLIPs that the host loads to ask it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ... import lclip
from . import memory, models

if TYPE_CHECKING:
    from ...lclip.safety.policy import PolicyData


@dataclass(frozen=True)
class WiredPolicy:
    """A policy, and the Latent-CLIPs that it asks."""

    policy: PolicyData
    models: tuple[models.LoadedLatentCLIP, ...]

    def judge(self, latents: Tensor | None = None, **options: Any) -> lclip.SafetyJudge:
        """The judge, with its models on their compute device and room for this batch."""
        models.load_together(self.models, latents)
        with memory.ordinary_tensors():
            return lclip.SafetyJudge(self.policy, [loaded.model for loaded in self.models], **options)

    def reward(self, weight: float, **options: Any) -> models.WiredReward:
        """The policy as a reward; see `lclip.SafetyReward`."""
        models.load_together(self.models)
        with memory.ordinary_tensors():
            reward = lclip.SafetyReward(self.policy, [m.model for m in self.models], weight, **options)
        return models.wire_reward(reward, self.models)

    def changed(self, **changes: Any) -> WiredPolicy:
        """The same models with a changed policy."""
        return replace(self, policy=self.policy.changed(**changes))

    @property
    def config(self) -> lclip.LatentCLIPConfig:
        return self.models[0].config
