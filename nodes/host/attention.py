"""Which of the host's attention functions have a derivative, and what to take in the place of others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor

DIFFERENTIABLE_ATTENTION = frozenset(
    ["attention_basic", "attention_split", "attention_sub_quad", "attention_pytorch"]
)
"""The host's attention functions that have a derivative; int8, sage and flash kernels have none."""


def differentiable_attention(function: Callable[..., Tensor], *args: Any, **named: Any) -> Tensor:
    """The host's own attention where it has a derivative, so that a render is the stock one to the bit."""
    return (function if _has_derivative(function) else attention_pytorch)(*args, **named)


def without_derivative() -> str | None:
    """The name of an attention without a derivative that networks of this host compute by, or None."""
    return next((_named(function) for function in _in_force() if not _has_derivative(function)), None)


def _has_derivative(function: Any) -> bool:
    return _named(function) in DIFFERENTIABLE_ATTENTION


def _named(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _in_force() -> Iterator[Any]:
    """Each module of networks holds a name of its own for the attention, which other packs may replace."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("comfy.ldm.", "comfy.cldm.")):
            for attention in ("optimized_attention", "optimized_attention_masked"):
                if (function := getattr(module, attention, None)) is not None:
                    yield function
