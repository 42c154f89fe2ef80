"""Which model is this? A name made of its weights, so that a threshold is never used with another model."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable

import torch

from ..model.latent_clip import LatentCLIP, stored_name

_KNOWN: weakref.WeakKeyDictionary[LatentCLIP, str] = weakref.WeakKeyDictionary()


def fingerprint(model: LatentCLIP) -> str:
    """16 hex digits of the SHA-256 over the weights, rounded to float16; worked out once per model object.

    float32 and float16 copies of a checkpoint agree. bfloat16 has lost digits, so it counts as another model.
    """
    if model not in _KNOWN:
        digest = hashlib.sha256(model.config.to_json().encode())
        for name, weight in sorted((stored_name(name), weight) for name, weight in model.named_parameters()):
            digest.update(name.encode())
            digest.update(weight.detach().to(torch.float16).cpu().contiguous().numpy().tobytes())
        _KNOWN[model] = digest.hexdigest()[:16]
    return _KNOWN[model]


def fingerprint_of_all(models: Iterable[LatentCLIP]) -> str:
    """The fingerprints of models that judge together, in their order."""
    return "+".join(fingerprint(model) for model in models)
