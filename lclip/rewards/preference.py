"""A latent preference model as a reward: LRM-XL (Zhang et al. 2025, arXiv 2502.01051), as it is published.

The score is s cos(text, latents). The latents' side is a projection of SDXL's UNet: the mean over all cells
of what each of its down blocks ends with, before it shrinks, and of the middle block, the latter with
classifier-free guidance; the text's is the pooled output of the second text encoder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.pickles import read_pickle
from ..latents.spaces import space_named
from .rewards import PUBLISHED_CLIP_SCALE, LatentReward, shorten, usable_for_backward

PARTS = ("unet", "text_encoder", "text_encoder_2", "state_dict.pt")
HEAD = "state_dict.pt"
GUIDANCE = 7.5
"""Of the published LRM-XL."""


@dataclass(frozen=True)
class Head:
    """What makes a score of the UNet's features, as state_dict.pt holds it."""

    projection: Tensor
    """[D, channels of all down blocks and the middle]"""
    scale: float
    """s, the exponential of what is stored."""

    @staticmethod
    def read(path: Path, widths: Sequence[int]) -> Head:
        """widths: channels of the UNet's down blocks. Nothing in it is run. CheckpointError, ValueError."""
        held = read_pickle(path)
        try:
            weight, scale = held["visual_projection"]["weight"], held["logit_scale"]
            weight, scale = weight.float(), float(scale.float().exp())
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} has no visual_projection and logit_scale; expected an LRM") from error
        wanted = sum(widths) + widths[-1]
        if weight.ndim != 2 or weight.shape[1] != wanted:
            raise ValueError(
                f"{path}: the projection has shape {list(weight.shape)}; expected [D, {wanted}], of all down "
                "blocks and the middle"
            )
        return Head(weight, scale)


@dataclass(frozen=True)
class Texts:
    """Of a prompt and of no text, in this order."""

    hidden: Tensor
    """What the UNet reads, [2, tokens, width]."""
    pooled: Tensor
    """[2, D]"""


class UNetPreference(LatentReward):
    """How much people would prefer latents for a prompt: weight x 0.01 x s x cos, as for the text reward.

    A subclass runs the UNet. guidance: of the middle block. at_once: latents of one pass; None: all. No noise
    is added, unlike in the paper: clean latents have none. ValueError where head and texts do not fit.
    """

    def __init__(
        self,
        head: Head,
        texts: Texts,
        prompt: str,
        weight: float = 1.0,
        name: str | None = None,
        guidance: float = GUIDANCE,
        at_once: int | None = None,
    ) -> None:
        super().__init__(weight, name or f"preference: {shorten(prompt)}", 4, "sdxl")
        if texts.pooled.shape[1] != len(head.projection):
            raise ValueError(
                f"the projection has {len(head.projection)} rows, the text {texts.pooled.shape[1]} numbers; "
                "expected the same of both: parts of one preference model"
            )
        self.head, self.texts, self.guidance, self.at_once = head, texts, guidance, at_once

    @abstractmethod
    def blocks(self, z: Tensor, texts: Texts) -> tuple[list[Tensor], Tensor]:
        """What the down blocks, before they shrink, and the middle end with.

        z: [2 B, 4, h, w] in the sampler's scale: latents for the prompt, and the same ones for no text.
        texts: one for each of them.
        """

    def score(self, latents: Tensor) -> Tensor:
        features = torch.cat([self._features(part) for part in latents.split(self.at_once or len(latents))])
        seen = F.linear(features, usable_for_backward(self.head.projection).to(features))
        cosine = F.cosine_similarity(seen, usable_for_backward(self.texts.pooled[:1]).to(seen))
        return PUBLISHED_CLIP_SCALE * self.head.scale * cosine

    def _features(self, latents: Tensor) -> Tensor:
        """[B, C, h, w] raw -> [B, sum of the blocks' channels]"""
        z = space_named("sdxl").to_sampler(latents)
        each = (self.texts.hidden, self.texts.pooled)
        texts = Texts(*(usable_for_backward(part).repeat_interleave(len(z), 0) for part in each))
        stages, middle = self.blocks(torch.cat([z, z]), texts)
        text, empty = (part.float() for part in middle.mean((2, 3)).chunk(2))
        means = [stage.chunk(2)[0].mean((2, 3)).float() for stage in stages]
        return torch.cat([*means, empty + self.guidance * (text - empty)], dim=1)


def check_parts(folder: Path, missing: Sequence[Path] = (), more: str = "") -> None:
    """FileNotFoundError where the folder lacks a part. missing, more: what else is not there, or wanted."""
    lacking = [folder / part for part in PARTS if not (folder / part).exists()]
    if gone := [*lacking, *missing]:
        raise FileNotFoundError(
            f"a latent preference model needs {gone[0]}, which is not there; expected a folder with "
            f"{', '.join(PARTS)}{more}"
        )
