"""Contrastive training of the mini world's two CLIPs: one reads latents, one of equal size reads pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..config import LatentCLIPConfig
from ..model import LatentCLIP
from ..tokenizer import WordTokenizer
from .drawing import place, render_batch
from .fitting import FitSettings, fit
from .meaning import Facts, true_of
from .scenes import (
    Content,
    caption,
    is_held_out,
    mention,
    neighbours,
    phrase,
    random_content,
    vague,
    vocabulary,
)

SETTINGS = FitSettings(steps=1900, learning_rate=1e-3, ema_decay=0.998, seed=2, weight_decay=0.05)
# a warm restart from the averaged weights (Loshchilov and Hutter 2017)
SECOND_CYCLE = replace(SETTINGS, steps=1200, learning_rate=7e-4, seed=4)
SINGLES, GROUPS, GROUP_SIZE = 24, 26, 4  # a batch: unrelated scenes, and groups that differ in one attribute
SPOKEN = 0.6  # share of captions that do not say everything:
MENTIONS = 0.5  # of these, how many speak of one object only,
VAGUENESS = (0.0, 0.3, 0.9)  # and what share they leave out, drawn per caption
POOL_GROUPS = 9_000
CONTEXT_LENGTH = 20
START_SCALE = 25.0
LATENT_NOISE = 0.6  # std of the noise on raw latents, twice the width of the VAE's posterior
FAST = ("log_logit_scale",)

CONFIG = LatentCLIPConfig(
    embed_dim=96, channels=4, patch_size=1, grid=8, vision_width=96, vision_layers=4, vision_heads=4,
    text_width=96, text_layers=3, text_heads=4, context_length=CONTEXT_LENGTH,
    vocab_size=len(vocabulary()) + 4, latent_space="mini", tokenizer="words",
)  # fmt: skip
PIXEL_CONFIG = replace(CONFIG, channels=3, patch_size=8, latent_space="mini-pixels")


@dataclass
class Pool:
    """Captioned training pictures in groups of GROUP_SIZE that differ in one attribute."""

    contents: list[Content]
    pictures: np.ndarray  # uint8 [N, 64, 64, 3]
    facts: Facts


def tokenizer() -> WordTokenizer:
    """The word tokenizer that every text tower of the mini world shares."""
    return WordTokenizer(vocabulary(), CONTEXT_LENGTH)


def draw_pool(groups: int = POOL_GROUPS, seed: int = 21) -> Pool:
    """Draw the training pictures of both CLIPs; nothing held out is in it."""
    rng = np.random.default_rng(seed)
    contents: list[Content] = []
    while len(contents) < groups * GROUP_SIZE:
        content = random_content(rng, "train")
        others = [other for other in neighbours(content, rng, 8) if not is_held_out(other)]
        if len(others) >= GROUP_SIZE - 1:
            contents += [content, *others[: GROUP_SIZE - 1]]
    return Pool(contents, render_batch(place(content, rng) for content in contents), Facts.of(contents))


def speak(content: Content, rng: np.random.Generator) -> Content:
    """What a training caption says of a picture: all of it, less, or one object only."""
    if rng.random() > SPOKEN:
        return content
    said = mention(content, rng) if rng.random() < MENTIONS else content
    return vague(said, rng, VAGUENESS[rng.integers(len(VAGUENESS))])


def train_clip(
    config: LatentCLIPConfig, inputs: torch.Tensor, pool: Pool, checkpoint: Path, steps: int | None = None
) -> LatentCLIP:
    """Train one CLIP on `inputs` [N, C, H, W], the pool's pictures in the form that the tower reads."""
    torch.manual_seed(SETTINGS.seed)
    words = tokenizer()
    model = LatentCLIP(config, tokenizer=words)
    with torch.no_grad():
        model.log_logit_scale.fill_(float(np.log(START_SCALE)))
    noise = LATENT_NOISE if config.latent_space == "mini" else 0.0

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        singles = rng.integers(len(inputs), size=SINGLES)
        groups = rng.integers(len(inputs) // GROUP_SIZE, size=GROUPS)
        grouped = (groups[:, None] * GROUP_SIZE + np.arange(GROUP_SIZE)).ravel()
        chosen = np.concatenate([singles, grouped])
        said = [speak(pool.contents[index], rng) for index in chosen]
        ids = words.encode([phrase(caption(content), rng) for content in said])
        pictures = inputs[torch.from_numpy(chosen)]
        images = model.encode_latents(pictures + noise * torch.randn_like(pictures))
        fits = torch.from_numpy(true_of(Facts.of(said), pool.facts[chosen]).T)
        return contrastive_loss(model, images, model.encode_tokens(ids), fits)

    for number, settings in enumerate((SETTINGS, SECOND_CYCLE)):
        cycle = checkpoint.with_stem(f"{checkpoint.stem}_{number}")
        average = fit(model, loss_of, settings.shortened(steps), cycle, FAST)
        model.load_state_dict(average.state_dict())
    return model.eval().requires_grad_(False)


def contrastive_loss(
    model: LatentCLIP, images: torch.Tensor, texts: torch.Tensor, fits: torch.Tensor
) -> torch.Tensor:
    """CLIP's symmetric cross-entropy [B, D], [B, D] -> scalar; where `fits` [images, texts], bool, says that
    a caption is true of another picture too, the two are no negatives.
    """
    scale = model.log_logit_scale.clamp(max=float(np.log(100.0))).exp()
    target = torch.arange(len(images))
    others = fits & (target[:, None] != target)
    logits = (scale * images @ texts.T).masked_fill(others, float("-inf"))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
