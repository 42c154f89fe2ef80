"""Probabilities of concepts, item by item, as `lclip.classify` gives them: [B, L]."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDED_SUM = 0.02
"""How far from one the probabilities of an item may add up, in half precision too."""


def check_probabilities(found: Tensor, count: int | None = None) -> None:
    """ValueError unless rows sum to one, or are NaN: [B, L]. Of cosines or logits there are no shares."""
    wanted = f"[items, {'concepts' if count is None else count}]"
    if not isinstance(found, Tensor) or found.ndim != 2 or count not in (None, found.shape[1]):
        got = f"of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(f"the probabilities are {got}; expected {wanted}, one for each concept")
    known = found[torch.isfinite(found).all(1)].detach().cpu().double()
    wrong = (known < 0).any(1) | ((known.sum(1) - 1).abs() > ROUNDED_SUM)
    if bool(wrong.any()):
        row = [round(each, 4) for each in known[wrong][0][:8].tolist()]
        raise ValueError(f"{row} are no probabilities; expected what `classify` gives: they sum to 1")


def clear_winners(probabilities: Tensor, margin: float) -> list[int]:
    """Per item the concept that wins by the margin, or -1: [B, L] -> B numbers."""
    top = probabilities.topk(2, dim=1)
    clear = top.values[:, 0] - top.values[:, 1] >= margin
    return torch.where(clear, top.indices[:, 0], -1).tolist()
