"""Latent-CLIP: score, choose, improve and gate pictures while they are still latents."""

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# What the library offers: each name is one line here. It is imported when it is first asked for, which keeps
# the start of ComfyUI and the command line's help quick.
if TYPE_CHECKING:
    from .adapters.adapter import AdaptedLatentCLIP, LatentAdapter, apply_adapter
    from .adapters.bridge import bridge
    from .adapters.encoding import EncodedPictures, encode_pictures
    from .adapters.files import load_adapter, save_adapter
    from .adapters.shipped import fit_latents, shipped_adapter
    from .adapters.training import AdapterSettings, AdapterTraining, train_adapter
    from .checkpoints.checkpoint import load, save_checkpoint
    from .checkpoints.convert import convert
    from .checkpoints.hub import pretrained
    from .choosing.balance import Balance, balance
    from .choosing.confusion import confusion
    from .choosing.pick import Pick, diversity, pick
    from .choosing.race import RaceRun, race
    from .choosing.shares import Shares, shares
    from .choosing.slide_types import SlideResult, SlideSettings, SlideStep
    from .choosing.slider import GuidedSlide, NoiseSlide, slide, slide_guided
    from .choosing.types import RaceCheck, RaceResult, RaceSettings
    from .data.pictures import find_pictures
    from .errors import CheckpointError
    from .evaluation.clip_benchmark import clip_benchmark
    from .exploring.blending import LinearCorners, SphericalCorners, slerp
    from .exploring.explore import ExploredMap, explore
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
    from .rewards.concepts import ConceptReward
    from .rewards.rewards import ImageReward, LatentReward, Reward, RewardSum, TextReward
    from .rewards.slider import AxisPointReward, SliderReward
    from .rewards.taste import Taste, TasteReward, train_taste
    from .rewards.taste_files import load_taste, save_taste
    from .rewards.variety import VarietyReward
    from .safety.calibration import Calibration, calibrate
    from .safety.judge import SafetyJudge, Verdict
    from .safety.policy import Concept
    from .safety.presets import parse_concepts
    from .safety.reward import SafetyReward
    from .safety.safety_policy import SafetyPolicy
    from .scoring import classify, heatmap, label_embeddings, similarity, top_k


def _homes() -> dict[str, str]:
    """The module of each name, by the imports above."""
    tree = ast.parse(Path(__file__).read_text("utf-8"))
    lines = next(node for node in tree.body if isinstance(node, ast.If)).body
    return {
        alias.name: f".{line.module}"
        for line in lines
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }


_HOMES = _homes()
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name], __name__), name)
    elif name in {home.split(".")[1] for home in _HOMES.values()}:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


# The folder lclip.reno is imported once, here: the first import of it would hide the function of that name.
import_module(".reno", __name__)
del globals()["reno"]

# Worlds and maps that come with the library, and register themselves: what asks for them knows none by name.
for _part in ("adapters", "mini"):
    import_module(f".{_part}", __name__)
