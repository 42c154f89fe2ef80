"""The formulas of ReNO (Eyring et al. 2024, "ReNO: Enhancing One-step Text-to-Image Models"), one batch item
at a time.

Every function works on a batch [B, ...] and treats each item as a run of its own: norms, clips and scales are
per item, so that a batch of B follows the trajectories of B runs of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..latents.items import item_norm, item_seed, per_item


def noise_regularizer(noise: Tensor) -> Tensor:
    """Negative log-likelihood of the norm of Gaussian noise, 0.5 |x|^2 - (d - 1) ln |x|: [B, ...] -> [B].

    Its minimum is at |x| = sqrt(d - 1), the norm that N(0, I) has in d dimensions (up to a constant).
    """
    norm = item_norm(noise)
    return 0.5 * norm**2 - (noise[0].numel() - 1) * norm.clamp_min(torch.finfo(norm.dtype).tiny).log()


def noise_regularizer_gradient(noise: Tensor) -> Tensor:
    """Gradient of `noise_regularizer`: x (1 - (d - 1) / |x|^2), the same shape as the noise."""
    norm = item_norm(noise).clamp_min(torch.finfo(torch.float32).tiny ** 0.5)
    return noise * per_item(1 - (noise[0].numel() - 1) / norm**2, noise).to(noise.dtype)


def clip_per_item(gradient: Tensor, max_norm: float) -> Tensor:
    """Shorten every item's gradient to at most `max_norm`, as clip_grad_norm_ does for a single tensor."""
    scale = (max_norm / (item_norm(gradient) + 1e-6)).clamp(max=1.0)
    return gradient * per_item(scale, gradient).to(gradient.dtype)


def loss_gradient(noise: Tensor, uphill: Tensor, regularization: float, max_norm: float) -> Tensor:
    """Gradient of the total loss, weight x regularizer - reward, clipped per item: [B, ...] -> [B, ...].

    uphill: gradient of the reward with respect to the noise.
    """
    return clip_per_item(regularization * noise_regularizer_gradient(noise) - uphill, max_norm)


class NesterovSGD:
    """SGD with momentum, torch's convention (Sutskever et al. 2013): v = m v + g; x = x - lr (g + m v)."""

    def __init__(self, lr: float, momentum: float, nesterov: bool):
        self.lr, self.momentum, self.nesterov = lr, momentum, nesterov
        self.velocity: Tensor | None = None

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The next x. Out of place: a step that a caller still holds is not changed."""
        velocity = gradient if self.velocity is None else self.momentum * self.velocity + gradient
        self.velocity = velocity
        return x - self.lr * (gradient + self.momentum * velocity if self.nesterov else velocity)


class Adam:
    """Adam (Kingma and Ba 2015) with bias correction, betas 0.9 and 0.999.

    Deviation: ReNO's code sets eps = 1e-2. Behind a clip to norm 0.1 an element of the gradient is about
    1e-3, so that eps would outweigh it and Adam would lose its scale-freeness; the usual 1e-8 is kept.
    """

    def __init__(self, lr: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.mean: Tensor | None = None
        self.square: Tensor | None = None
        self.steps = 0

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The next x, out of place."""
        mean = torch.zeros_like(x) if self.mean is None else self.mean
        square = torch.zeros_like(x) if self.square is None else self.square
        self.steps += 1
        self.mean = self.beta1 * mean + (1 - self.beta1) * gradient
        self.square = self.beta2 * square + (1 - self.beta2) * gradient**2
        mean = self.mean / (1 - self.beta1**self.steps)
        square = self.square / (1 - self.beta2**self.steps)
        return x - self.lr * mean / (square.sqrt() + self.eps)


def power_of_two_scale(gradient: Tensor, target: float = 1.0) -> Tensor:
    """Per item the power of two that brings the largest element of a gradient just under `target`: [B, ...]
    -> [B].

    A power of two changes no mantissa: in fp32 the scaled and unscaled back-propagation are the same numbers,
    and in fp16 small gradients no longer underflow.
    """
    largest = gradient.flatten(1).abs().amax(dim=1).to(torch.float32)
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.log2(target / torch.where(usable, largest, torch.full_like(largest, target))).floor()
    return torch.exp2(exponent.clamp(-100, 100))


def item_noise_source(
    noise: Tensor, seed: int, places: Sequence[int] | None = None, stream: int = 0
) -> Callable[[], Tensor]:
    """A source of fresh N(0, I) noise shaped like `noise`, every item from a generator of its own (on the
    CPU).

    places: of the items, [B]; None counts from 0. stream: see `item_seed`.
    """
    items = range(noise.shape[0]) if places is None else places
    generators = [torch.Generator().manual_seed(item_seed(seed, item, stream)) for item in items]

    def draw() -> Tensor:
        fresh = [torch.randn(noise.shape[1:], generator=generator) for generator in generators]
        return torch.stack(fresh).to(device=noise.device, dtype=noise.dtype)

    return draw


def neighbour(noise: Tensor, fresh: Tensor, radius: float) -> Tensor:
    """A neighbour of Gaussian noise that is Gaussian itself: sqrt(1 - r^2) x + r e, with e ~ N(0, I)."""
    return math.sqrt(1 - radius**2) * noise + radius * fresh
