"""A cheap look at a model's weights, which tells whether they are what they were."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

AT_ONCE = 1 << 24  # numbers that a glance holds in float32


@torch.no_grad()
def glance(model: nn.Module) -> bytes:
    """A look at every weight, many times cheaper than a fingerprint: one number for each row.

    Versions and addresses of tensors would be cheaper still, but do not tell: writing through `.data` leaves
    the version, inference tensors have none, and a host moves weights about.
    """
    rows = [_row_sums(weight.detach()) for _, weight in sorted(model.named_parameters())]
    seen = hashlib.sha256()
    for device in dict.fromkeys(row.device for row in rows):
        values = torch.cat([row for row in rows if row.device == device])
        seen.update(values.cpu().numpy().tobytes())
    return seen.digest()


def _row_sums(weight: Tensor) -> Tensor:
    """Each row's sum, in which every place has a weight of its own: [rows], or all of a short tensor."""
    if weight.ndim < 2:
        return weight.float().reshape(-1)
    rows = weight.flatten(1)
    places = torch.arange(rows.shape[1], device=rows.device, dtype=torch.float32)
    factors = 0.5 + (places * 0.6180339887).frac()
    return torch.cat([part.float() @ factors for part in rows.split(max(1, AT_ONCE // rows.shape[1]))])
