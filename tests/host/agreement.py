"""When two results of a host count as the same: bit for bit on a CPU, nearly on a GPU."""

from __future__ import annotations

import torch

from benchmarks.server import Host

ROUNDING = 1e-5  # of their norm: two renders of a GPU that should be equal
DRIFT = 0.02  # the same of two searches: TF32 convolutions, and backward passes in another order


def same(host: Host, first: torch.Tensor, second: torch.Tensor, on_gpu: float = ROUNDING) -> bool:
    """Whether two results are equal on a CPU, or differ by no more than that share of their norm on a GPU."""
    if host.on_cpu:
        return torch.equal(first, second)
    return bool((first - second).norm() <= on_gpu * second.norm())


def near(host: Host, first: torch.Tensor, second: torch.Tensor, rtol: float, atol: float) -> None:
    """Assert that two results are that close on a CPU; on a GPU, that they did not drift apart."""
    if host.on_cpu:
        torch.testing.assert_close(first, second, rtol=rtol, atol=atol)
    else:
        assert same(host, first, second, DRIFT)
