"""The mini world: a small drawn world with trained models and a pixel oracle that knows the truth.

Everything in it runs on a CPU without a download, through the same code as the released checkpoints.
Importing it makes its latent spaces known to the library.
"""

from .registration import register
from .world import World, load_twin, load_world

__all__ = ["World", "load_twin", "load_world"]

register()
