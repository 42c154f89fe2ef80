"""Contrastive training of the mini world's pixel CLIP, which then teaches the Latent-CLIP of equal size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..model.config import LatentCLIPConfig
from ..model.latent_clip import LatentCLIP
from ..model.tokenizer import WordTokenizer
from ..training.loop import FitSettings, fit
from ..training.losses import contrastive_loss
from .cycles import Cycle
from .drawing import place, random_palette, recolour, render_batch
from .meaning import Facts, true_of
from .scenes import (
    Content,
    Scene,
    caption,
    mention,
    neighbours,
    phrase,
    random_content,
    split_of,
    vague,
    vocabulary,
)


@dataclass(frozen=True)
class CaptionCycle(Cycle):
    """A cycle on captions and pictures.

    seed: of the pool. nameless: share of its groups that have colours without a name. adversarial: whether
    the image tower sees adversarial examples.
    """

    seed: int
    nameless: float = 0.0
    adversarial: bool = False


SETTINGS = FitSettings(
    steps=2800, learning_rate=2e-3, ema_decay=0.998, seed=2, weight_decay=0.05, optimizer="muon"
)
# A warm restart from the averaged weights (Loshchilov and Hutter 2017). Now half of the pictures have colours
# without a name (domain randomisation, Tobin et al. 2017): a single object has so few combinations of
# attributes that the first cycle learns them by heart, and shapes of held-out ones are misread. And now the
# pictures are adversarial examples, because ReNO climbs a CLIP's gradient and finds such.
SECOND_CYCLE = replace(SETTINGS, steps=700, learning_rate=1e-3, seed=4)
CYCLES = (CaptionCycle(SETTINGS, 21), CaptionCycle(SECOND_CYCLE, 22, nameless=0.5, adversarial=True))
SINGLES, GROUPS, GROUP_SIZE = 24, 26, 4  # a batch: unrelated scenes, and groups that differ in one attribute
VAGUENESS = (0.0, 0.0, 0.3, 0.9)  # share that a caption leaves out, drawn per caption
POOL_GROUPS = 12_000
CONTEXT_LENGTH = 20
START_SCALE = 25.0
# Largest rms of an adversarial change, in pixels of 0..1. Twice or three times as much cost 2 to 4 points of
# retrieval, and ReNO gained no more.
EPSILON = 0.01
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


def draw_pool(seed: int, nameless: float = 0.0, groups: int = POOL_GROUPS) -> Pool:
    """Draw the training pictures of both CLIPs; nothing held out is in it.

    In a share `nameless` of the groups every picture has colours from one random palette.
    """
    rng = np.random.default_rng(seed)
    scenes: list[Scene] = []
    while len(scenes) < groups * GROUP_SIZE:
        content = random_content(rng, "train")
        others = [other for other in neighbours(content, rng, 8) if split_of(other) == "train"]
        if len(others) >= GROUP_SIZE - 1:
            group = [place(member, rng) for member in (content, *others[: GROUP_SIZE - 1])]
            if rng.random() < nameless:
                palette = random_palette(rng)
                group = [recolour(scene, palette) for scene in group]
            scenes += group
    contents = [scene.content for scene in scenes]
    return Pool(contents, render_batch(scenes), Facts.of(contents))


def speak(content: Content, rng: np.random.Generator) -> tuple[Content, Content]:
    """What the two captions of one picture say: all of it or less, and one object only.

    The text tower is small against the image tower, so a second caption costs little. Without it, "a skull"
    hardly finds the pictures in which the skull is one of two objects.
    """
    about_all = vague(content, rng, VAGUENESS[rng.integers(len(VAGUENESS))])
    about_one = vague(mention(content, rng), rng, VAGUENESS[rng.integers(1, len(VAGUENESS))])
    return about_all, about_one


def start(config: LatentCLIPConfig, seed: int) -> LatentCLIP:
    """An untrained CLIP that begins with a mild logit scale."""
    torch.manual_seed(seed)
    model = LatentCLIP(config, tokenizer=tokenizer())
    with torch.no_grad():
        model.log_logit_scale.fill_(float(np.log(START_SCALE)))
    return model


def train_clip(checkpoint: Path, steps: int | None = None) -> LatentCLIP:
    """Train the pixel CLIP; keeps resumable checkpoints named after `checkpoint`."""
    model = start(PIXEL_CONFIG, SETTINGS.seed)
    for number, cycle in enumerate(CYCLES):
        file = checkpoint.with_stem(f"{checkpoint.stem}_{number}")
        pool = draw_pool(cycle.seed, cycle.nameless, POOL_GROUPS if steps is None else GROUPS)
        pictures = torch.from_numpy(pool.pictures).permute(0, 3, 1, 2).float() / 255.0
        loss_of = loss_on(model, pool, pictures, EPSILON if cycle.adversarial else None)
        average = fit(model, loss_of, cycle.settings.shortened(steps), file, FAST)
        model.load_state_dict(average.state_dict())
    return model.eval().requires_grad_(False)


def loss_on(
    model: LatentCLIP,
    pool: Pool,
    inputs: torch.Tensor,
    epsilon: float | None = None,
    noise: float = 0.0,
) -> Callable[[np.random.Generator], torch.Tensor]:
    """The loss of a random batch of the pool, as `fit` wants it.

    inputs: the pool's pictures as the model reads them, [N, C, H, W]. epsilon: the largest rms of an
    adversarial change; None for none. noise: the largest std of normal noise on each of them.
    """

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        singles = rng.integers(len(inputs), size=SINGLES)
        groups = rng.integers(len(inputs) // GROUP_SIZE, size=GROUPS)
        grouped = (groups[:, None] * GROUP_SIZE + np.arange(GROUP_SIZE)).ravel()
        chosen = np.concatenate([singles, grouped])
        sayings = list(zip(*(speak(pool.contents[index], rng) for index in chosen), strict=True))
        pictures = inputs[torch.from_numpy(chosen)]
        if noise:
            pictures = noisy(pictures, noise)
        return captions_loss(model, pictures, sayings, pool.facts[chosen], rng, epsilon)

    return loss_of


def captions_loss(
    model: LatentCLIP,
    pictures: torch.Tensor,
    sayings: Sequence[Sequence[Content]],
    facts: Facts,
    rng: np.random.Generator,
    epsilon: float | None = None,
) -> torch.Tensor:
    """The contrastive loss of pictures [N, C, H, W] and captions of them, mean over the sayings.

    sayings: lists of N contents, each of which says all or less of its picture. facts: of the pictures.
    """
    true = [torch.from_numpy(true_of(Facts.of(said), facts).T) for said in sayings]
    typed = [phrase(caption(content), rng) for said in sayings for content in said]
    texts = encode_by_length(model, model.tokenizer.encode(typed)).split(len(pictures))

    def loss(texts: Sequence[torch.Tensor], pictures: torch.Tensor) -> torch.Tensor:
        images = model.encode_latents(pictures)
        scale = model.log_logit_scale
        pairs = zip(texts, true, strict=True)
        return torch.stack([contrastive_loss(images, text, scale, also) for text, also in pairs]).mean()

    if epsilon is not None:
        fixed = [text.detach() for text in texts]
        pictures = adversarial_examples(pictures, lambda changed: loss(fixed, changed), epsilon)
    return loss(texts, pictures)


def encode_by_length(model: LatentCLIP, ids: torch.Tensor, parts: int = 4) -> torch.Tensor:
    """As `model.encode_tokens`, in parts of like length: each is cut to its longest. [T, L] -> [T, D]."""
    order = ids.argmax(dim=-1).argsort()
    encoded = torch.cat([model.encode_tokens(ids[part]) for part in order.chunk(parts)])
    return encoded[order.argsort()]


def noisy(inputs: torch.Tensor, largest: float) -> torch.Tensor:
    """Inputs [N, C, H, W] with normal noise, of a random std of up to `largest` for each."""
    return inputs + largest * torch.rand(len(inputs), 1, 1, 1) * torch.randn_like(inputs)


def adversarial_examples(
    pictures: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor], epsilon: float
) -> torch.Tensor:
    """The pictures [N, C, H, W], each moved up the gradient of `loss`, by a random rms of up to `epsilon`.

    One step of the fast gradient method (Goodfellow et al. 2015, arXiv 1412.6572), here in the L2 norm. The
    result is not clamped, and replaces the clean pictures instead of joining them.
    """
    changed = pictures.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(changed), changed)
    rms = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-20)
    return pictures + epsilon * torch.rand_like(rms) * gradient / rms
