"""Latent adapters: a small map from one VAE's latents to another's, and a Latent-CLIP behind it.

Both VAEs encode the same pictures, so that one's latents are nearly a local function of the other's. A
Latent-CLIP behind such a map reads the other VAE's latents, with nothing trained but the map.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.fingerprint import fingerprint
from ..latents.checks import check_form, check_readable
from ..latents.items import item_by_item
from ..latents.size_rules import SizeRule
from ..latents.spaces import LatentSpace, require_space
from ..model.config import LatentCLIPConfig
from ..model.latent_clip import LatentCLIP
from ..model.tokenizer import Tokenizer

logger = logging.getLogger("latent-clip")

UNRELATED = 0.7  # latent error above which the two sides have hardly anything in common
UNRELATED_HINT = (
    " That is hardly better than no map at all: are these the same pictures on both sides, through the right "
    "VAEs?"
)


@dataclass(frozen=True)
class AdapterShape:
    """What an adapter maps, and how large it is. ValueError where the two spaces' factors do not fit."""

    source: LatentSpace
    target: LatentSpace
    width: int = 64  # channels of the hidden layers
    depth: int = 2  # residual blocks
    shrink: int = 1  # how many times smaller the target picture is, each way

    def __post_init__(self) -> None:
        for name, least, most in (("width", 1, 1024), ("depth", 0, 32), ("shrink", 1, 8)):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"the adapter's {name} is {value!r}; expected {least} to {most}")
        larger, smaller = sorted((self.source.factor, self.target_factor), reverse=True)
        if larger % smaller:
            raise ValueError(
                f"{self.source.title} have one cell per {self.source.factor} pixels, {self.target.title} one "
                f"per {self.target.factor}; expected one of them to be a multiple of the other. No adapter "
                "maps these."
            )

    @property
    def target_factor(self) -> int:
        """Pixels of the source picture per target cell, each way."""
        return self.target.factor * self.shrink

    @property
    def merge(self) -> int:
        """Source cells a side that become one target cell; 1 where cells are equal or are split."""
        return max(1, self.target_factor // self.source.factor)

    @property
    def split(self) -> int:
        """Target cells a side that one source cell becomes; 1 where cells are equal or are merged."""
        return max(1, self.source.factor // self.target_factor)


@dataclass(frozen=True)
class AdapterFigures:
    """How an adapter was trained, and how well it does on pictures that it was not trained on.

    pictures: all that were used; held_out: those among them that were only measured on. latent_error:
    mean squared error of the held-out latents as a share of their variance, 0 is perfect. cosine: mean
    cosine of the Latent-CLIP's embeddings of mapped and of real latents, None where there was none to
    ask. seconds: of the training, without encoding.
    """

    pictures: int
    held_out: int
    latent_error: float
    cosine: float | None
    steps: int
    seconds: float


class Adapter(nn.Module, ABC):
    """Anything that maps raw latents of one space to those of another, [B, C, h, w] -> [B, c, H, W].

    One frame each, [B, C, 1, h, w], is as good.

    figures, trained_with: how it was trained, and the fingerprint of the Latent-CLIP that it was trained
    with; None where nobody says. trained_from: a hash of all that the training started from
    (`lclip.checkpoints.inputs`), where whoever trained it knew that and let it come to its end.
    """

    def __init__(self, shape: AdapterShape) -> None:
        super().__init__()
        self.shape = shape
        self.figures: AdapterFigures | None = None
        self.trained_with: str | None = None
        self.trained_from: str | None = None

    @property
    def source(self) -> LatentSpace:
        return self.shape.source

    @property
    def target(self) -> LatentSpace:
        return self.shape.target

    def describe(self) -> str:
        """The spaces and the figures, in words."""
        text = f"Latent adapter: {self.source.title} ({self.source.channels} channels) -> {self.target.title}"
        if self.figures is None:
            return text
        f = self.figures
        cosine = "" if f.cosine is None else f"cosine {f.cosine:.4f}, "
        return (
            f"{text}\nTrained on {f.pictures} pictures, {f.steps} steps in {f.seconds:.0f} s. On the "
            f"{f.held_out} held out: {cosine}latent error {100 * f.latent_error:.2f} % of the "
            f"variance.{UNRELATED_HINT if f.latent_error > UNRELATED else ''}"
        )

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """Raw latents of the target space, differentiable in z."""

    def check_source(self, z: Tensor) -> Tensor:
        """The batch as pictures of the source space's channels, [B, C, h, w]. ValueError for another."""
        return check_form(z, self.source.channels, self.source.name, "the adapter")


class LatentAdapter(Adapter):
    """Raw latents of the source space to raw latents of the target space: a linear map plus a correction.

    [B, C, h, w] -> [B, c, H, W] with H = h * split / merge. Cells of different size are split or merged by
    moving them into channels, so that nothing is blurred. Where the shape shrinks, the target latents are
    those of the picture at so many times less than its size: two steps, the other space and the smaller
    picture, in one.
    """

    def __init__(self, shape: AdapterShape, device: torch.device | str | None = None) -> None:
        super().__init__(shape)
        inputs = shape.source.channels * shape.merge**2
        outputs = shape.target.channels * shape.split**2
        where: dict[str, Any] = {"device": device}
        # Parameters, so that a fingerprint covers them; they are measured, not trained.
        self.source_mean = nn.Parameter(torch.zeros(inputs, **where), requires_grad=False)
        self.source_std = nn.Parameter(torch.ones(inputs, **where), requires_grad=False)
        self.target_mean = nn.Parameter(torch.zeros(outputs, **where), requires_grad=False)
        self.target_std = nn.Parameter(torch.ones(outputs, **where), requires_grad=False)
        self.linear = nn.Conv2d(inputs, outputs, 3, padding=1, **where)
        self.enter = nn.Conv2d(inputs, shape.width, 3, padding=1, **where)
        self.blocks = nn.ModuleList(_Block(shape.width, **where) for _ in range(shape.depth))
        self.leave = nn.Conv2d(shape.width, outputs, 3, padding=1, **where)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, z: Tensor) -> Tensor:
        """Raw latents of the target space, differentiable in z and in the parameters."""
        x = self.standard_source(z)
        hidden = self.enter(x)
        for block in self.blocks:
            hidden = block(hidden)
        return self.raw_target(self.linear(x) + self.leave(F.silu(hidden)))

    def standard_source(self, z: Tensor) -> Tensor:
        """Raw source latents, merged to the coarser of the two grids, with mean 0 and std 1 per channel."""
        z = self.check_source(z)
        z = z.to(self.source_mean)  # first: resampled in half precision, a sum of cells would be rounded
        merge = self.shape.merge
        if merge > 1:
            height, width = (max(1, round(side / merge)) * merge for side in z.shape[-2:])
            if (height, width) != tuple(z.shape[-2:]):
                z = F.interpolate(z, (height, width), mode="bilinear", align_corners=False)
            z = F.pixel_unshuffle(z, merge)
        return (z - _planes(self.source_mean)) / _planes(self.source_std)

    def standard_target(self, z: Tensor) -> Tensor:
        """Raw target latents on the coarser of the two grids, with mean 0 and std 1 per channel."""
        if self.shape.split > 1:
            z = F.pixel_unshuffle(z, self.shape.split)
        return (z.to(self.target_mean) - _planes(self.target_mean)) / _planes(self.target_std)

    def raw_target(self, x: Tensor) -> Tensor:
        """Back from `standard_target`."""
        x = x * _planes(self.target_std) + _planes(self.target_mean)
        return F.pixel_shuffle(x, self.shape.split) if self.shape.split > 1 else x


class _Block(nn.Module):
    """Two 3x3 convolutions around a residual connection."""

    def __init__(self, width: int, **where: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, **where)
        self.second = nn.Conv2d(width, width, 3, padding=1, **where)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


def _planes(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


class AdaptedLatentCLIP(LatentCLIP):
    """A Latent-CLIP behind an adapter: the same model, reading latents of the adapter's source space.

    It shares the towers of the model that it was made from. Everything that takes a Latent-CLIP takes it.
    """

    def __init__(self, base: LatentCLIP, adapter: Adapter) -> None:
        nn.Module.__init__(self)  # the towers are the base's own
        self.base, self.adapter = base, adapter
        self.config = adapted_config(base.config, adapter.shape)
        self.size_rule = base.size_rule
        self.free_bytes = base.free_bytes
        self.train(base.training)

    @property
    def logit_scale(self) -> float:
        return self.base.logit_scale

    @property
    def tokenizer(self) -> Tokenizer:
        return self.base.tokenizer

    def tokenizer_metadata(self) -> dict:
        return self.base.tokenizer_metadata()

    def vocabulary_digest(self) -> str:
        return self.base.vocabulary_digest()

    def encode_latents(self, z: Tensor, size_rule: str | SizeRule | None = None) -> Tensor:
        rule = size_rule or self.size_rule
        return self._read(lambda part: self.base.encode_latents(self.adapter(part), rule), z)

    def patch_embeddings(
        self, z: Tensor, method: str = "contributions", size_rule: str | None = None
    ) -> Tensor:
        rule = size_rule or self.size_rule
        return self._read(lambda part: self.base.patch_embeddings(self.adapter(part), method, rule), z)

    def _read(self, read: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        return item_by_item(lambda shown: self._in_passes(read, shown), check_readable(z, self.config))

    def gradient_memory(self, height: int, width: int, items: int = 1) -> int:
        factor, own = self.adapter.source.factor, self.adapter.target.factor
        return self.base.gradient_memory(height * factor // own, width * factor // own, items)

    def encode_text(self, texts: str | Sequence[str]) -> Tensor:
        return self.base.encode_text(texts)

    def remembered(self, about: Hashable, texts: Sequence[str], encode: Callable[[], Tensor]) -> Tensor:
        return self.base.remembered(about, texts, encode)

    def encode_tokens(self, ids: Tensor) -> Tensor:
        return self.base.encode_tokens(ids)


def apply_adapter(model: LatentCLIP, adapter: Adapter) -> AdaptedLatentCLIP:
    """A Latent-CLIP that reads the adapter's source space; the model itself stays as it is.

    ValueError where the adapter leads to another space than the model's. One that was trained with another
    checkpoint of that space is taken, with a warning: its figures were measured with the other.
    """
    if isinstance(model, AdaptedLatentCLIP):
        raise ValueError(
            f"this Latent-CLIP stands behind an adapter already, from {model.adapter.source.title}; expected "
            "one as it was loaded"
        )
    require_space(
        model.config.latent_space,
        adapter.target.name,
        "this Latent-CLIP",
        "the adapter leads to",
        "Train an adapter with this checkpoint, or load the checkpoint that it was trained with.",
    )
    if adapter.trained_with not in (None, fingerprint(model)):
        logger.warning(
            "The adapter was trained with the Latent-CLIP %s; this one is %s. Both read %s, so it will do, "
            "but its figures were measured with the other.",
            adapter.trained_with, fingerprint(model), adapter.target.title,
        )  # fmt: skip
    return AdaptedLatentCLIP(model, adapter)


def adapted_config(config: LatentCLIPConfig, shape: AdapterShape) -> LatentCLIPConfig:
    """A configuration as it looks from the source space: its channels, and its cells.

    ValueError where a token of the model would be no whole number of source cells.
    """
    if config.channels != shape.target.channels:
        raise ValueError(
            f"the adapter makes latents with {shape.target.channels} channels; this Latent-CLIP reads "
            f"{config.channels}"
        )
    native = config.native_size * shape.merge
    patch = max(1, config.patch_size * shape.merge // shape.split)
    if native % (shape.split * patch):
        raise ValueError(
            f"this Latent-CLIP was trained on {config.native_size}x{config.native_size} latents in patches "
            f"of {config.patch_size}; expected sizes that cells {shape.split} times larger can express"
        )
    return replace(
        config,
        channels=shape.source.channels,
        latent_space=shape.source.name,
        patch_size=patch,
        grid=native // shape.split // patch,
    )
