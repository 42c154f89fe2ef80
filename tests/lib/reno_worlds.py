"""Small generators and rewards with known answers, shared by the tests of the noise search."""

import torch
from torch import nn

SHAPE = (4, 8, 8)


def noise(batch, seed=0, dtype=torch.float32):
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mixing_generator(x):
    """Analytic and nonlinear, acts on every item alone: z = 3 tanh(roll(x)) + x / 2."""
    return 3 * torch.tanh(x.roll(1, dims=-1)) + 0.5 * x


def quadratic_reward(goal):
    """r(z) = -mean (z - goal)^2, whose only optimum is the goal."""

    def quadratic(z):
        return -((z - goal) ** 2).flatten(1).mean(dim=1)

    return quadratic


def wave_reward(z):
    """Smooth, bounded and without symmetry between items."""
    return torch.sin(z).flatten(1).mean(dim=1) + 0.1 * z[:, 0].flatten(1).mean(dim=1)


class DeepGenerator(nn.Module):
    """A small residual network in a chosen precision that takes and gives what the caller's precision is."""

    def __init__(self, dtype, depth=6, width=32):
        super().__init__()
        source = torch.Generator().manual_seed(3)
        self.inner = dtype
        self.first = nn.Conv2d(4, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(width, 4, 3, padding=1)
        for parameter in self.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.data = torch.randn(parameter.shape, generator=source) * (
                0.05 if fan == 1 else fan**-0.5
            )
        self.requires_grad_(False).to(dtype)

    def forward(self, x):
        h = self.first(x.to(self.inner))
        for block in self.blocks:
            h = h + block(nn.functional.silu(h))
        return self.last(nn.functional.silu(h))
