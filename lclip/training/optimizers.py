"""Which optimizer takes which parameter: Muon the hidden matrices, AdamW all others."""

from __future__ import annotations

import torch
from torch import nn

from .muon import Muon

OPTIMIZERS = ("adamw", "muon")
FAST = 5.0  # how many times faster the fast parameters learn


def make_optimizers(
    module: nn.Module,
    optimizer: str,
    learning_rate: float,
    weight_decay: float = 0.01,
    eps: float = 1e-8,
    fast: tuple[str, ...] = (),
) -> list[torch.optim.Optimizer]:
    """What is trainable, weight decay on matrices only; no optimizer without a parameter.

    fast: names of parameters that learn `FAST` times as fast. eps: of AdamW. ValueError where nothing learns.
    """
    groups: dict[str, dict[tuple[float, float], list[nn.Parameter]]] = {"adamw": {}, "muon": {}}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            hidden = parameter.ndim == 2 and "embedding" not in name and name not in fast
            key = (weight_decay if parameter.ndim > 1 else 0.0, FAST if name in fast else 1.0)
            groups[optimizer if hidden else "adamw"].setdefault(key, []).append(parameter)
    adamw, muon = (
        [
            {"params": parameters, "weight_decay": decay, "speed": speed}
            for (decay, speed), parameters in groups[name].items()
        ]
        for name in OPTIMIZERS
    )
    if not adamw and not muon:
        raise ValueError(f"{type(module).__name__} has no trainable weight; expected at least one")
    optimizers: list[torch.optim.Optimizer] = []
    if adamw:
        optimizers.append(torch.optim.AdamW(adamw, learning_rate, betas=(0.9, 0.98), eps=eps))
    if muon:
        optimizers.append(Muon(muon, learning_rate))
    return optimizers
