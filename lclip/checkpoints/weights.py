"""What is asked of weights before they are a Latent-CLIP's: plain, of its shapes, and finite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..model.config import LatentCLIPConfig
from ..model.latent_clip import LatentCLIP, stored_name
from .tensors import all_finite


def check_tensors(weights: Mapping[str, Any], path: Path) -> None:
    """Plain floating-point tensors that claim no more than the file holds; CheckpointError for others."""
    room = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{name!r} is a {type(value).__name__}; expected a tensor")
        if value.layout != torch.strided or value.device.type != "cpu" or not value.is_floating_point():
            raise CheckpointError(
                f"{name!r} is a {value.dtype} tensor ({value.layout}); expected plain numbers"
            )
        room -= value.numel() * value.element_size()
        if room < 0:  # a tensor with zero strides can claim any size from a few bytes
            raise CheckpointError(
                f"{name!r} claims shape {list(value.shape)}, which is more than the file holds"
            )


def check_weights(weights: Mapping[str, Tensor], config: LatentCLIPConfig, path: Path) -> None:
    """All weights of a configuration and no others, of its shapes, and finite; CheckpointError otherwise."""
    check_architecture(weights, LatentCLIP(config, device="meta"))
    check_finite(weights, path)


def check_architecture(weights: Mapping[str, Tensor], model: LatentCLIP) -> None:
    """All weights of a model and no others, of its shapes; CheckpointError otherwise."""
    expected = {stored_name(name): list(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [name for name in expected if name not in weights]
    if missing:
        raise CheckpointError(
            f"incomplete: {_listed(missing)} missing; it has {len(weights)} of {len(expected)} weights"
        )
    extra = [name for name in weights if name not in expected]
    if extra:
        raise CheckpointError(f"a different architecture: {_listed(extra)} unknown to Latent-CLIP")
    for name, shape in expected.items():
        if list(weights[name].shape) != shape:
            raise CheckpointError(
                f"a different architecture: {name!r} has shape {list(weights[name].shape)}; expected {shape}"
            )


def check_finite(weights: Mapping[str, Tensor], path: Path, how: str = "") -> None:
    refuse_infinite([name for name, tensor in weights.items() if not all_finite(tensor)], path, how)


def refuse_infinite(bad: list[str], path: Path, how: str = "") -> None:
    if bad:
        raise CheckpointError(f"{path}: {_listed(bad)} NaN or infinite {how}".rstrip())


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"
