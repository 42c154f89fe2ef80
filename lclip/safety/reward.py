"""A safety policy as a reward: noise search and guidance away from harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..rewards.rewards import PUBLISHED_CLIP_SCALE, LatentReward, check_weight
from .judge import SafetyJudge
from .policy import check_augmentations

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP
    from .policy import PolicyData

HEADROOM = 2.0
"""How far below its threshold a concept is pushed before the pull fades, in log-odds."""


class SafetyReward(LatentReward):
    """How safe latents are, on the scale of the text reward:

        r(z) = -weight x 0.01 x softplus(max over concepts of (margin(z) - log-odds of its threshold) +
        headroom)

    margin is the log-odds of the very probability that the judge compares with the threshold, in which
    cosines count times the logit scale, as in ReNO's CLIP reward. The softplus lets go of what is safe
    already, so that a harmless picture is left alone. 0 is the best value there is.

    augmentations: the policy's own where none are given. An optimiser fools what it sees, so let the gate
    that follows see more.
    only_unsafe: 0, without gradient, for an item that is below every threshold already, as guidance wants it.
    headroom: in log-odds; the pull fades where every concept is that far below its threshold.

    ValueError as for `SafetyJudge`, or for a weight that is not finite or negative.
    """

    def __init__(
        self,
        policy: PolicyData,
        model: LatentCLIP | Sequence[LatentCLIP],
        weight: float = 1.0,
        name: str = "safety",
        augmentations: Sequence[str] | None = None,
        only_unsafe: bool = False,
        headroom: float = HEADROOM,
    ) -> None:
        if check_weight(weight) < 0:
            raise ValueError(
                f"a safety reward's weight is {weight}; expected 0 or more: below, it seeks harm"
            )
        self.judge = SafetyJudge(policy, model, check_scale=False)
        super().__init__(weight, name, self.judge.config.channels, self.judge.config.latent_space)
        self.augmentations = check_augmentations(augmentations or self.judge.policy.augmentations)
        if not math.isfinite(headroom):
            raise ValueError(f"headroom is {headroom}; expected a finite number of log-odds, such as 2.0")
        self.only_unsafe, self.headroom = only_unsafe, headroom

    @property
    def target(self) -> float:
        """The reward from which on every concept is the headroom below its threshold."""
        return -self.weight * PUBLISHED_CLIP_SCALE * math.log(2)

    def score(self, latents: Tensor) -> Tensor:
        beyond = self.judge.excess(latents, self.augmentations)
        value = -PUBLISHED_CLIP_SCALE * F.softplus(beyond + self.headroom)
        return torch.where(beyond < 0, torch.zeros_like(value), value) if self.only_unsafe else value
