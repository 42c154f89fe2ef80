"""Which model is this? A name made of its weights, so that a threshold is never used with another model."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from ..model.glance import glance

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP

_KNOWN: weakref.WeakKeyDictionary[LatentCLIP, tuple[bytes, str]] = weakref.WeakKeyDictionary()
"""Fingerprints, each with the glance at the weights for which it holds."""


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


def _glance(model: LatentCLIP) -> bytes:
    """What a fingerprint is made of, many times cheaper."""
    beside = f"{model.config.to_json()}{_beside_weights(model)}"
    return hashlib.sha256(beside.encode()).digest() + glance(model)
