"""Guidance of a many-step sampler by a reward on its predicted clean latents.

As in classifier guidance (Dhariwal and Nichol 2021) and universal guidance (Bansal et al. 2023), each step's
x0 moves along the reward's gradient; only with respect to x0, so that nothing is back-propagated through the
model:

    x0' = x0 + strength * rms(x0) * g / rms(g),   g = d r(decode(x0)) / d x0

Deviation: the papers scale by the raw gradient, whose size depends on reward, resolution and sigma. Here its
direction alone counts, and a strength of 0.1 moves every item by a tenth of its own size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..latents.items import finite_items, item_norm, per_item
from ..rewards.rewards import Reward, check_reward
from .uphill import Uphill


def guided_x0(
    x0: Tensor, reward: Reward, strength: float, to_raw: Callable[[Tensor], Tensor] = lambda x0: x0
) -> Tensor:
    """Predicted clean latents, moved along the reward's gradient.

    x0: [B, C, H, W] in any scale; reward: clean raw latents -> [B]; to_raw: brings x0 to raw latents.
    strength: length of the move relative to x0, per item; a negative one lowers the reward.

    An item whose gradient is zero or not finite stays as it is. ValueError for a reward that does not depend
    on the latents, or that is asked inside torch.inference_mode().
    """
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "Guidance inside torch.inference_mode() has no gradient; call it outside of that mode."
        )
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}; expected a finite number, such as 0.05")
    z = x0.detach().to(torch.promote_types(x0.dtype, torch.float32))
    gradient = Uphill()(lambda x: check_reward("guidance", reward(to_raw(x)), x), z).gradient
    if gradient is None:
        raise ValueError(
            "The reward does not depend on the latents, so it cannot guide them. Give one that reads them."
        )
    length = item_norm(gradient)
    usable = finite_items(gradient) & (length > 0) & torch.isfinite(length)
    scale = torch.where(usable, strength * item_norm(z) / length, torch.zeros_like(length))
    move = per_item(scale, z) * torch.where(per_item(usable, z), gradient, torch.zeros_like(gradient))
    return x0 + move.to(x0.dtype)
