"""Pictures that nodes show on themselves. Knows nothing of the host.

Its files are imported when a node first draws: `draw.charts`. ComfyUI starts sooner without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import charts, curves, maps, races, roc_chart, share_chart, sheets, slides, words

__all__ = ["charts", "curves", "maps", "races", "roc_chart", "share_chart", "sheets", "slides", "words"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f".{name}", __name__)
