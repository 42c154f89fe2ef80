"""Latent-CLIP for diffusers' pipelines: guidance and guard while they sample, gates and choices after that.

Nothing of this is loaded by `import lclip`. It needs the package diffusers: pip install
'latent-clip[diffusers]'.
"""

try:
    import diffusers  # noqa: F401
except ImportError as error:
    raise ImportError(
        "lclip.diffusers needs the package diffusers, which is not installed: pip install "
        "'latent-clip[diffusers]'"
    ) from error

from .after import Chosen, Gated, best_of, gate
from .callbacks import RewardGuidance, SafetyGuard
from .guider import RewardGuider
from .latents import PipelineLatents, pipeline_space, reader
from .preference import PreferenceReward
from .searching import race, reno

__all__ = [
    "Chosen",
    "Gated",
    "PipelineLatents",
    "PreferenceReward",
    "RewardGuidance",
    "RewardGuider",
    "SafetyGuard",
    "best_of",
    "gate",
    "pipeline_space",
    "race",
    "reader",
    "reno",
]
