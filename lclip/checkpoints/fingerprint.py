"""Which model is this? A name made of its weights, so that a threshold is never used with another model."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP

_KNOWN: weakref.WeakKeyDictionary[LatentCLIP, tuple[bytes, str]] = weakref.WeakKeyDictionary()
"""Fingerprints, each with the glance at the weights for which it holds."""
AT_ONCE = 1 << 24  # numbers that a glance holds in float32


@runtime_checkable
class BesideWeights(Protocol):
    """A part of a model of which the weights do not say all."""

    def beside_weights(self, device: torch.device) -> str:
        """What else changes its answers, as a text; empty where nothing does."""
        ...


def fingerprint(model: LatentCLIP) -> str:
    """16 hex digits of the SHA-256 over the weights, rounded to float16, over a vocabulary of its own,
    and over what else a part of it says (`BesideWeights`).

    float32 and float16 copies of a checkpoint agree. bfloat16 has lost digits, so it counts as another model.
    CLIP's own vocabulary adds nothing. Worked out again only where a glance at the weights finds a change.
    """
    seen = _glance(model)
    known = _KNOWN.get(model)
    if known is None or known[0] != seen:
        known = _KNOWN[model] = (seen, _worked_out(model))
    return known[1]


def fingerprint_of_all(models: Iterable[LatentCLIP]) -> str:
    """The fingerprints of models that judge together, in their order."""
    return "+".join(fingerprint(model) for model in models)


def _worked_out(model: LatentCLIP) -> str:
    from ..model.latent_clip import stored_name

    digest = hashlib.sha256(model.config.to_json().encode())
    for name, weight in sorted((stored_name(name), weight) for name, weight in model.named_parameters()):
        digest.update(name.encode())
        digest.update(weight.detach().to(torch.float16).cpu().contiguous().numpy().tobytes())
    digest.update(_beside_weights(model).encode())
    return digest.hexdigest()[:16]


def _beside_weights(model: LatentCLIP) -> str:
    """The vocabulary, and what parts of the model say; empty for most."""
    parts = [part for part in model.modules() if isinstance(part, BesideWeights)]
    device = next(model.parameters()).device
    return model.vocabulary_digest() + "".join(part.beside_weights(device) for part in parts)


@torch.no_grad()
def _glance(model: LatentCLIP) -> bytes:
    """A look at every weight, many times cheaper than a fingerprint: one number for each row.

    Versions and addresses of tensors would be cheaper still, but do not tell: writing through `.data` leaves
    the version, inference tensors have none, and a host moves weights about.
    """
    rows = [_row_sums(weight.detach()) for _, weight in sorted(model.named_parameters())]
    seen = hashlib.sha256(f"{model.config.to_json()}{_beside_weights(model)}".encode())
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
