"""What is trained: a new Latent-CLIP, or one that begins as a pixel CLIP (arXiv 2503.08455, future work)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from ..latents.spaces import LatentSpace
from ..model.config import LatentCLIPConfig
from ..model.latent_clip import LatentCLIP
from ..model.tokenizer import Tokenizer
from .pixel_clips import PixelCLIP

SDXL = {"latent_space": "sdxl", "channels": 4, "context_length": 77, "vocab_size": 49408}
BASE = {"vision_width": 768, "vision_layers": 12, "vision_heads": 12, "text_layers": 12}
MODELS = {
    # The two released ones.
    "b-8": LatentCLIPConfig(
        embed_dim=512, patch_size=8, grid=8, text_width=512, text_heads=8, **BASE, **SDXL
    ),
    "b-4-plus": LatentCLIPConfig(
        embed_dim=640, patch_size=4, grid=16, text_width=640, text_heads=10, **BASE, **SDXL
    ),
}
# What a pixel tower cannot know of latents; stage one trains only these.
MADE_ANEW = ("visual.conv1.weight", "visual.positional_embedding")


def config_named(name: str, space: LatentSpace) -> LatentCLIPConfig:
    """A released model's sizes by name, or those in a JSON file, for a latent space. Raises ValueError."""
    if name in MODELS:
        return replace(MODELS[name], channels=space.channels, latent_space=space.name)
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"model is {name!r}; expected {' or '.join(MODELS)}, or a JSON file of a config")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return LatentCLIPConfig(**{**entries, "channels": space.channels, "latent_space": space.name})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no config of a Latent-CLIP: {error}") from error


def new_towers(config: LatentCLIPConfig, tokenizer: Tokenizer | None = None, seed: int = 0) -> LatentCLIP:
    """A Latent-CLIP of random weights, trainable; the same for the same seed."""
    torch.manual_seed(seed)
    return LatentCLIP(config, tokenizer=tokenizer)


def towers_from(
    pixel: PixelCLIP, space: LatentSpace, latent_size: int, patch_size: int | None = None, seed: int = 0
) -> LatentCLIP:
    """A Latent-CLIP that begins as a pixel CLIP; patch embedding and positions are made anew.

    latent_size: side of the latents in cells. patch_size: cells per token, each way; None comes as near to
    the pixel tower's number of tokens as it can. Raises ValueError.
    """
    old = pixel.model.config
    patch_size = patch_size or _nearest_patch(latent_size, old.grid)
    if latent_size % patch_size:
        raise ValueError(f"latents of {latent_size} cells cannot be cut into patches of {patch_size}")
    config = replace(
        old,
        channels=space.channels,
        patch_size=patch_size,
        grid=latent_size // patch_size,
        latent_space=space.name,
    )
    model = new_towers(config, pixel.model._tokenizer, seed)  # not .tokenizer: distillation reads no text
    kept = {name: value for name, value in pixel.model.state_dict().items() if name not in MADE_ANEW}
    model.load_state_dict(kept, strict=False)
    return model


def set_trainable(model: LatentCLIP, names: tuple[str, ...] = ("",)) -> None:
    """Make the parameters whose names begin with one of these trainable, and freeze the others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(names))


def recompute_activations(model: LatentCLIP) -> None:
    """Let the blocks of both towers compute again in the backward pass what they would keep."""
    for tower in (model.visual.transformer, model.transformer):
        for block in tower.resblocks:
            block.recompute = True  # pyright: ignore[reportArgumentType]


def _nearest_patch(latent_size: int, grid: int) -> int:
    divisors = [patch for patch in range(1, latent_size + 1) if latent_size % patch == 0]
    return min(divisors, key=lambda patch: abs(latent_size // patch - grid))
