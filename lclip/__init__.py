"""Latent-CLIP: score, choose, improve and gate pictures while they are still latents."""

from importlib import import_module

from .adapters.adapter import AdaptedLatentCLIP, LatentAdapter, apply_adapter
from .adapters.bridge import bridge
from .adapters.encoding import EncodedPictures, encode_pictures
from .adapters.files import load_adapter, save_adapter
from .adapters.shipped import fit_latents, shipped_adapter
from .adapters.training import AdapterSettings, AdapterTraining, train_adapter
from .checkpoints.checkpoint import load, save_checkpoint
from .checkpoints.convert import convert
from .choosing.race import RaceRun, race
from .choosing.types import RaceCheck, RaceResult, RaceSettings
from .data.pictures import find_pictures
from .errors import CheckpointError
from .latents.checks import check_latents, latent_doubts
from .latents.scale import scale_doubt
from .latents.size_rules import DEFAULT_SIZE_RULE, SIZE_RULES
from .latents.spaces import LATENT_SPACES, LatentSpace, space_named, space_title
from .model.config import LatentCLIPConfig, config_from_state_dict
from .model.graphs import graphed
from .model.latent_clip import LatentCLIP
from .model.text_doubts import text_doubts
from .model.tokenizer import WordTokenizer
from .reno.guidance import guided_x0
from .reno.run import ReNORun, reno
from .reno.types import ReNORecord, ReNOResult, ReNOSettings, ReNOStep
from .rewards.rewards import ImageReward, LatentReward, Reward, RewardSum, TextReward
from .rewards.taste import Taste, TasteReward, train_taste
from .rewards.taste_files import load_taste, save_taste
from .safety.calibration import Calibration, calibrate
from .safety.judge import SafetyJudge, Verdict
from .safety.policy import Concept
from .safety.presets import parse_concepts
from .safety.reward import SafetyReward
from .safety.safety_policy import SafetyPolicy
from .scoring import classify, heatmap, label_embeddings, similarity, top_k

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
    "LatentReward",
    "LatentSpace",
    "RaceCheck",
    "RaceResult",
    "RaceRun",
    "RaceSettings",
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
    "bridge",
    "calibrate",
    "check_latents",
    "classify",
    "config_from_state_dict",
    "convert",
    "encode_pictures",
    "find_pictures",
    "fit_latents",
    "graphed",
    "guided_x0",
    "heatmap",
    "label_embeddings",
    "latent_doubts",
    "load",
    "load_adapter",
    "load_taste",
    "parse_concepts",
    "race",
    "reno",
    "save_adapter",
    "save_checkpoint",
    "save_taste",
    "scale_doubt",
    "shipped_adapter",
    "similarity",
    "space_named",
    "space_title",
    "text_doubts",
    "top_k",
    "train_adapter",
    "train_taste",
]

# Worlds that come with the library, and register themselves: the core knows none by name.
for _world in ("mini",):
    import_module(f".{_world}", __name__)
