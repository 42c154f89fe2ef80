"""The policy that users hold: its data, the shipped ones by name, and the question to a Latent-CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from .judge import SafetyJudge, Verdict
from .policy import PolicyData
from .presets import preset_json

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..model.latent_clip import LatentCLIP


@dataclass(frozen=True)
class SafetyPolicy(PolicyData):
    __doc__ = PolicyData.__doc__

    @classmethod
    def preset(cls, name: str) -> Self:
        """A policy that comes with the library: "i2p" or "mini". ValueError for another name."""
        return cls.from_json(preset_json(name))

    def judge(self, model: LatentCLIP | Sequence[LatentCLIP], z: Tensor) -> list[Verdict]:
        """One verdict per item of clean raw latents [B, C, H, W]; see `lclip.safety.judge.SafetyJudge`."""
        return SafetyJudge(self, model)(z)
