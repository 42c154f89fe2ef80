"""The gradient of a reward with respect to latents, with half-precision models as with float32 ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..latents.items import finite_items, per_item
from .maths import power_of_two_scale

REWARD_SCALE = 2.0**8
"""What a reward of size 1 is multiplied by: a cosine's gradient then stays far from both ends of fp16."""
LARGE = 2.0**10
"""A larger reward is taken for one with a large weight; a smaller one may be small beside a constant."""
SMALL = 2.0**-8
"""A gradient whose largest element is below has begun to lose its small ones in fp16."""
RESCALE = 2.0**-6
"""By how much a scale shrinks after an overflow."""
ATTEMPTS = 4
"""Back-propagations tried per gradient before an item's counts as not finite."""


@dataclass(frozen=True)
class Slope:
    """What a reward says of latents. gradient: of scale x reward, None where it does not read them."""

    value: Tensor
    """[B], in at least fp32, without graph."""
    gradient: Tensor | None
    """[B, C, H, W]; 0 for items that do not count."""
    scale: Tensor
    """[B], powers of two."""

    def unscaled(self) -> Tensor | None:
        """The reward's own gradient, which is 0 where it is too small for the type."""
        return None if self.gradient is None else self.gradient / per_item(self.scale, self.gradient)


class Uphill:
    """Back-propagates a reward to latents, and keeps each item's loss scale from one call to the next.

    The scale is always a power of two: fp32 does not notice it, and without it fp16 loses small gradients
    (Micikevicius et al. 2018, arXiv 1710.03740). It starts from the size of the reward, so that a weight
    cancels; a gradient that overflows, or comes out small, is computed once more with a better one.
    """

    def __init__(self) -> None:
        self.scale: Tensor | None = None
        self.overflowed: Tensor | None = None

    def __call__(self, ask: Callable[[Tensor], Tensor], z: Tensor, active: Tensor | None = None) -> Slope:
        """ask: latents -> [B], differentiable. z: [B, C, H, W], at least fp32. active: bool [B].

        Items that are inactive, or whose reward is not finite, get gradient 0.
        """
        for attempt in range(ATTEMPTS):
            value, gradient, scale = self._try(ask, z, active)
            if gradient is None or attempt == ATTEMPTS - 1 or not self._rescaled(gradient, attempt == 0):
                break
        return Slope(value, gradient, scale)

    def _try(
        self, ask: Callable[[Tensor], Tensor], z: Tensor, active: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        leaf = z.detach().clone().requires_grad_()
        with torch.enable_grad():
            value = ask(leaf.clone())  # a reward may write into what it is given
            value = value.to(torch.promote_types(value.dtype, torch.float32))
            counted = torch.isfinite(value)
            if active is not None:
                counted = counted & active.to(value.device)
            scale = self._scale_of(value)
            loss = torch.where(counted, value * scale, torch.zeros_like(value)).sum()
        gradient = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
        if gradient is not None:
            gradient = torch.where(per_item(counted.to(z.device), z), gradient, torch.zeros_like(gradient))
        return value.detach(), gradient, scale.to(z.device)

    def _scale_of(self, value: Tensor) -> Tensor:
        if self.scale is None:
            rows = value.detach()[:, None]
            small = power_of_two_scale(rows).clamp(min=1)
            self.scale = REWARD_SCALE * small * power_of_two_scale(rows, LARGE).clamp(max=1)
            self.overflowed = torch.zeros_like(self.scale, dtype=torch.bool)
        return self.scale.to(value)

    def _rescaled(self, gradient: Tensor, first: bool) -> bool:
        """Better scales for the items that need one; whether there are such items."""
        assert self.scale is not None and self.overflowed is not None
        overflow = (~finite_items(gradient)).to(self.scale.device)
        self.overflowed |= overflow
        self.scale = torch.where(overflow, self.scale * RESCALE, self.scale)
        largest = gradient.flatten(1).abs().amax(dim=1).to(self.scale)
        small = (largest > 0) & (largest < SMALL) & ~self.overflowed if first else torch.zeros_like(overflow)
        better = self.scale * power_of_two_scale(largest[:, None])
        self.scale = torch.where(small, better, self.scale)
        return bool((overflow | small).any())
