"""Latent-CLIP: score, choose, improve and gate pictures while they are still latents."""

from .checkpoint import load, save_checkpoint
from .config import LATENT_SPACES, LatentCLIPConfig, LatentSpace, config_from_state_dict
from .errors import CheckpointError
from .guards import check_latents, scale_doubt
from .model import LatentCLIP
from .scoring import classify, heatmap, label_embeddings, similarity, top_k
from .sizing import DEFAULT_SIZE_RULE, SIZE_RULES
from .tokenizer import WordTokenizer

__all__ = [
    "DEFAULT_SIZE_RULE",
    "LATENT_SPACES",
    "SIZE_RULES",
    "CheckpointError",
    "LatentCLIP",
    "LatentCLIPConfig",
    "LatentSpace",
    "WordTokenizer",
    "check_latents",
    "classify",
    "config_from_state_dict",
    "heatmap",
    "label_embeddings",
    "load",
    "save_checkpoint",
    "scale_doubt",
    "similarity",
    "top_k",
]
