"""Latent-CLIP: score, choose, improve and gate pictures while they are still latents."""

from .checkpoint import load, save_checkpoint
from .config import LATENT_SPACES, LatentCLIPConfig, LatentSpace, config_from_state_dict
from .errors import CheckpointError
from .model import LatentCLIP
from .sizing import SIZE_RULES
from .tokenizer import WordTokenizer

__all__ = [
    "LATENT_SPACES",
    "SIZE_RULES",
    "CheckpointError",
    "LatentCLIP",
    "LatentCLIPConfig",
    "LatentSpace",
    "WordTokenizer",
    "config_from_state_dict",
    "load",
    "save_checkpoint",
]
