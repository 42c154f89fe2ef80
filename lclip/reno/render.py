"""One render of a ReNO search, with or without the gradient of its reward with respect to the noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..latents.items import finite_items, per_item
from ..rewards.rewards import RewardSum, described, sum_parts
from .maths import power_of_two_scale
from .uphill import ATTEMPTS, RESCALE, Uphill

GRADIENT_FREE = "Use method='best_of_n' or method='zero_order', which need no gradient"


def check_noise(noise: Any, places: Sequence[int] | None = None, whose: str = "ReNO's") -> Tensor:
    """The caller's noise as a plain tensor of its own: ValueError if it cannot be searched from.

    whose: noise it is, as errors begin.
    """
    if not isinstance(noise, Tensor) or noise.ndim < 2 or noise.numel() == 0 or not noise.is_floating_point():
        got = (
            f"{noise.dtype} of shape {tuple(noise.shape)}"
            if isinstance(noise, Tensor)
            else type(noise).__name__
        )
        raise ValueError(
            f"{whose} noise is {got}; expected a floating-point tensor [batch, ...] with at least one item. "
            f"An empty latent has nothing to optimise: raise its batch size or size."
        )
    if places is not None and len(places) != len(noise):
        raise ValueError(
            f"{whose} places are {list(places)} for a batch of {len(noise)}; expected one per item, or None."
        )
    bad = (~finite_items(noise)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"{whose} noise holds NaN or infinite values in items {bad}; expected N(0, I) noise."
        )
    if bool((noise.flatten(1) == 0).all(dim=1).any()):
        raise ValueError(
            f"{whose} noise is zero everywhere in at least one item; expected N(0, I) noise, which is what "
            "the search improves. Switch adding noise on: a schedule's second half has no noise of its own."
        )
    return noise.detach().to(torch.promote_types(noise.dtype, torch.float32), copy=True)


def render(generate: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
    """Call the generator and check its answer: ValueError unless it gives one latent per item.

    Both ways a copy goes: a generator may write into its input, and answer with the same buffer every time.
    """
    latents = generate(noise.clone())
    if not isinstance(latents, Tensor) or latents.ndim < 2 or latents.shape[0] != noise.shape[0]:
        raise ValueError(
            f"The generator answered with {described(latents)} for noise of shape "
            f"{tuple(noise.shape)}; expected latents [{noise.shape[0]}, channels, height, width], one per "
            "item."
        )
    return latents.clone()


class GradientRenderer:
    """Renders noise and gives the gradient of every item's reward with respect to its own noise.

    The chain is cut at the latents, dr/dx = J^T dr/dz. So the reward's graph is gone before the generator's
    backward needs memory, and each half gets its own loss scale per item: always a power of two, which fp32
    does not notice and without which fp16 loses small gradients. A scale that overflows shrinks and the
    backward is repeated.
    """

    def __init__(
        self,
        generate: Callable[[Tensor], Tensor],
        reward: RewardSum,
        batch: int,
        otherwise: str = GRADIENT_FREE,
    ) -> None:
        """otherwise: what to do where there is no gradient, for errors."""
        self.generate, self.otherwise = generate, otherwise
        self.reward = reward
        self.uphill = Uphill()
        self.generator_target = torch.ones(batch)

    def __call__(self, noise: Tensor, active: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """noise [B, ...], active bool [B] -> latents, named rewards [B], reward gradient [B, ...].

        Items that are inactive, or whose reward is not finite, get gradient 0.
        """
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "ReNO's gradient method runs inside torch.inference_mode(), where nothing can be "
                f"differentiated. Wrap the call in torch.inference_mode(False). {self.otherwise}."
            )
        for attempt in range(ATTEMPTS):
            x = noise.detach().requires_grad_()
            with torch.enable_grad():
                latents = render(self.generate, x)
            if not latents.requires_grad:
                raise ValueError(
                    "The generator's latents carry no gradient: something in it (a sampler under "
                    f"torch.no_grad, a quantised layer) cuts the chain to the noise. {self.otherwise}, or "
                    "use another sampler."
                )
            parts, cotangent = self._reward_gradient(latents, active)
            gradient = self._through_generator(x, latents, cotangent)
            overflow = ~finite_items(gradient)
            if attempt == ATTEMPTS - 1 or not overflow.any() or not finite_items(cotangent)[overflow].any():
                break
            self.generator_target = torch.where(
                overflow.to(self.generator_target.device),
                self.generator_target * RESCALE,
                self.generator_target,
            )
        return latents.detach(), parts, gradient

    def _reward_gradient(self, latents: Tensor, active: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Named rewards and dr/dz at the latents, both without graph."""
        parts: dict[str, Tensor] = {}

        def total(z: Tensor) -> Tensor:
            parts.update(self.reward.parts(z))
            return sum_parts(parts)

        z = latents.detach().to(torch.promote_types(latents.dtype, torch.float32))
        slope = self.uphill(total, z, active).unscaled()
        if slope is None:
            raise ValueError(self._independent())
        return {name: value.detach() for name, value in parts.items()}, slope

    def _independent(self) -> str:
        names = ", ".join(repr(name) for name in self.reward.rewards)
        return (
            f"The reward ({names}) does not depend on the latents, so it has no gradient to follow. Give a "
            f"reward that reads them with differentiable operations. {self.otherwise}."
        )

    def _through_generator(self, x: Tensor, latents: Tensor, cotangent: Tensor) -> Tensor:
        """J^T cotangent by back-propagation through the generator, scaled per item."""
        scale = power_of_two_scale(cotangent) * self.generator_target.to(cotangent.device)
        seed = (cotangent * per_item(scale, cotangent)).to(latents)
        (gradient,) = torch.autograd.grad(latents, x, grad_outputs=seed)
        silent = per_item((cotangent.flatten(1) == 0).all(dim=1), x)
        return torch.where(silent, torch.zeros_like(x), gradient / per_item(scale.to(x.device), x)).to(
            x.dtype
        )
