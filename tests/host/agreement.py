"""When two results of a host count as the same: bit for bit on a CPU, nearly on a GPU."""

from __future__ import annotations

import torch

from benchmarks.server import Host

ROUNDING = 0.02  # of their size: what TF32 convolutions, and other kernels under a gradient, may change


def same(host: Host, first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether the host's two results are equal, as far as its device gives the same twice."""
    if host.on_cpu:
        return torch.equal(first, second)
    return bool((first - second).norm() < ROUNDING * second.norm())


def near(host: Host, first: torch.Tensor, second: torch.Tensor, rtol: float, atol: float) -> None:
    """Assert that two results are close on a CPU, and as close as its device lets them be on a GPU."""
    if host.on_cpu:
        torch.testing.assert_close(first, second, rtol=rtol, atol=atol)
    else:
        assert same(host, first, second)
