"""The mini world: a small drawn world with trained models and a pixel oracle that knows the truth.

Everything in it runs on a CPU without a download, through the same code as the released checkpoints.
Importing it makes its latent spaces known to the library; its models come with the first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import register

if TYPE_CHECKING:
    from .world import World, load_twin, load_world

__all__ = ["World", "load_twin", "load_world"]

register()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".world", __name__), name)
