"""Muon: momentum whose every update of a matrix is made orthogonal (Jordan et al. 2024; arXiv 2502.16982)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of the quintic iteration; steep at zero
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """As `torch.optim.Muon` with Nesterov momentum and adjust_lr_fn "match_rms_adamw", but in float32.

    torch has it from 2.9 on, and computes in bfloat16, which is slow on a CPU without such units. params:
    matrices, no embeddings, and the kernels of convolutions, each a matrix of outputs by all that one output
    reads. lr: as for AdamW. Raises ValueError for a parameter that is neither.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise ValueError(f"Muon got a parameter {tuple(parameter.shape)}; expected matrices")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore
        """One update of every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._descend(parameter, parameter.grad, group)
        return loss

    def _descend(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(buffer, group["momentum"]).flatten(1))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        # An orthogonal update brought to the rms of AdamW's (arXiv 2502.16982, section 2.2).
        step = -group["lr"] * 0.2 * max(update.shape) ** 0.5
        parameter.add_(update.view_as(parameter), alpha=step)


def orthogonal(matrix: Tensor) -> Tensor:
    """Bring the singular values of a matrix [M, N] near 1 and keep its singular vectors."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.float()
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix)
