"""All that knows ComfyUI's internals: a change of the host is mended here.

The files that do a node's work are imported when it first runs: `host.models`. ComfyUI starts sooner without
them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        adapter,
        bridge,
        explore,
        gate,
        guidance,
        ksampler,
        memory,
        mini,
        models,
        pictures,
        policy,
        preference,
        race,
        safety,
        sampling,
        slider,
        spaces,
    )

__all__ = [
    "adapter",
    "bridge",
    "explore",
    "gate",
    "guidance",
    "ksampler",
    "memory",
    "mini",
    "models",
    "pictures",
    "policy",
    "preference",
    "race",
    "safety",
    "sampling",
    "slider",
    "spaces",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f".{name}", __name__)
