"""Latent-CLIP: score, choose, improve and gate pictures while they are still latents."""

from .adapter import AdaptedLatentCLIP, LatentAdapter, apply_adapter
from .adapter_files import load_adapter, save_adapter
from .adapter_pictures import EncodedPictures, encode_pictures
from .adapter_training import AdapterSettings, AdapterTraining, train_adapter
from .calibration import Calibration, calibrate
from .checkpoint import load, save_checkpoint
from .config import LatentCLIPConfig, config_from_state_dict
from .convert import convert
from .errors import CheckpointError
from .graphs import graphed
from .guards import check_latents, scale_doubt
from .guidance import guided_x0
from .model import LatentCLIP
from .pictures import find_pictures
from .reno_run import ReNORun, reno
from .reno_types import ReNORecord, ReNOResult, ReNOSettings, ReNOStep
from .rewards import ImageReward, Reward, RewardSum, TextReward
from .safety_judge import SafetyJudge, Verdict
from .safety_policy import Concept, SafetyPolicy
from .safety_presets import parse_concepts
from .safety_reward import SafetyReward
from .scoring import classify, heatmap, label_embeddings, similarity, top_k
from .sizing import DEFAULT_SIZE_RULE, SIZE_RULES
from .spaces import LATENT_SPACES, LatentSpace, space_named, space_title
from .taste import Taste, TasteReward, train_taste
from .taste_files import load_taste, save_taste
from .tokenizer import WordTokenizer

__all__ = [
    "DEFAULT_SIZE_RULE",
    "LATENT_SPACES",
    "SIZE_RULES",
    "AdaptedLatentCLIP",
    "AdapterSettings",
    "AdapterTraining",
    "Calibration",
    "CheckpointError",
    "Concept",
    "EncodedPictures",
    "ImageReward",
    "LatentAdapter",
    "LatentCLIP",
    "LatentCLIPConfig",
    "LatentSpace",
    "ReNORecord",
    "ReNOResult",
    "ReNORun",
    "ReNOSettings",
    "ReNOStep",
    "Reward",
    "RewardSum",
    "SafetyJudge",
    "SafetyPolicy",
    "SafetyReward",
    "Taste",
    "TasteReward",
    "TextReward",
    "Verdict",
    "WordTokenizer",
    "apply_adapter",
    "calibrate",
    "check_latents",
    "classify",
    "config_from_state_dict",
    "convert",
    "encode_pictures",
    "find_pictures",
    "graphed",
    "guided_x0",
    "heatmap",
    "label_embeddings",
    "load",
    "load_adapter",
    "load_taste",
    "parse_concepts",
    "reno",
    "save_adapter",
    "save_checkpoint",
    "save_taste",
    "scale_doubt",
    "similarity",
    "space_named",
    "space_title",
    "top_k",
    "train_adapter",
    "train_taste",
]
