"""The shapes of the models around Latent-CLIP, with random weights: cost depends on shapes alone.

SDXL's VAE decoder and UNet are built from their published figures (channels, depths, heads) and have the
published numbers of parameters, to the last one. They compute nothing meaningful.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lclip import LatentCLIP, LatentCLIPConfig

DECODER_PARAMETERS = 49_490_199  # with the 1x1 convolution in front
UNET_PARAMETERS = 2_567_463_684


class ResBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice, around a residual connection; with a time embedding in the UNet."""

    def __init__(self, width_in: int, width_out: int, embedding: int | None, eps: float):
        super().__init__()
        self.norm_1, self.conv_1 = (
            nn.GroupNorm(32, width_in, eps),
            nn.Conv2d(width_in, width_out, 3, padding=1),
        )
        self.norm_2, self.conv_2 = (
            nn.GroupNorm(32, width_out, eps),
            nn.Conv2d(width_out, width_out, 3, padding=1),
        )
        self.embed = nn.Linear(embedding, width_out) if embedding else None
        self.skip = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        hidden = self.conv_1(F.silu(self.norm_1(x)))
        if self.embed is not None and time is not None:
            hidden = hidden + self.embed(F.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv_2(F.silu(self.norm_2(hidden)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class PixelAttention(nn.Module):
    """One-headed attention over all positions, in the middle of the VAE."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, 1e-6)
        self.to_qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.to_qkv(self.norm(x)).flatten(2).transpose(1, 2)  # [B, HW, 3C]
        q, k, v = (part.unsqueeze(1).contiguous() for part in rows.chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2)
        return x + self.out(mixed.unflatten(2, x.shape[2:]))


class SDXLDecoder(nn.Module):
    """The shape of SDXL's VAE decoder: [B, 4, h, w] -> [B, 3, 8h, 8w]."""

    def __init__(self, widths: tuple[int, ...] = (512, 512, 256, 128), blocks: int = 3):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(4, 4, 1), nn.Conv2d(4, widths[0], 3, padding=1)]
        layers += [
            self._block(widths[0], widths[0]),
            PixelAttention(widths[0]),
            self._block(widths[0], widths[0]),
        ]
        width = widths[0]
        for level, next_width in enumerate(widths):
            for _ in range(blocks):
                layers.append(self._block(width, next_width))
                width = next_width
            if level < len(widths) - 1:
                layers.append(Upsample(width))
        layers += [nn.GroupNorm(32, width, 1e-6), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    @staticmethod
    def _block(width_in: int, width_out: int) -> ResBlock:
        return ResBlock(width_in, width_out, None, 1e-6)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class CrossBlock(nn.Module):
    """Self-attention, attention to the text, and a gated MLP, each behind a LayerNorm."""

    def __init__(self, width: int, context: int, head: int):
        super().__init__()
        self.heads = width // head
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.queries = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))
        self.keys = nn.ModuleList(nn.Linear(size, width, bias=False) for size in (width, context))
        self.values = nn.ModuleList(nn.Linear(size, width, bias=False) for size in (width, context))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.gate, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self._attend(0, self.norms[0](x), None)
        x = x + self._attend(1, self.norms[1](x), context)
        value, gate = self.gate(self.norms[2](x)).chunk(2, dim=-1)
        return x + self.down(value * F.gelu(gate))

    def _attend(self, which: int, x: Tensor, context: Tensor | None) -> Tensor:
        source = x if context is None else context
        q, k, v = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in (
                (self.queries[which], x),
                (self.keys[which], source),
                (self.values[which], source),
            )
        )
        return self.outs[which](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class SpatialTransformer(nn.Module):
    """Cross blocks over the positions of a feature map."""

    def __init__(self, width: int, depth: int, context: int, head: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, 1e-6)
        self.enter, self.leave = nn.Linear(width, width), nn.Linear(width, width)
        self.blocks = nn.ModuleList(CrossBlock(width, context, head) for _ in range(depth))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        tokens = self.enter(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens = block(tokens, context)
        return x + self.leave(tokens).transpose(1, 2).unflatten(2, x.shape[2:])


class SDXLUNet(nn.Module):
    """The shape of SDXL's UNet: [B, 4, h, w], text [B, 77, 2048] and a vector [B, 2816] -> [B, 4, h, w]."""

    def __init__(
        self,
        width: int = 320,
        multiples: tuple[int, ...] = (1, 2, 4),
        depths: tuple[int, ...] = (0, 2, 10),
        context: int = 2048,
        vector: int = 2816,
        head: int = 64,
    ):
        super().__init__()
        self.width, self.time_width = width, 4 * width
        self.time = _two_layers(width, self.time_width)
        self.label = _two_layers(vector, self.time_width)
        widths = [width * multiple for multiple in multiples]

        def stage(width_in: int, width_out: int, depth: int, up: bool = False) -> nn.ModuleList:
            parts: list[nn.Module] = [ResBlock(width_in, width_out, self.time_width, 1e-5)]
            if depth:
                parts.append(SpatialTransformer(width_out, depth, context, head))
            return nn.ModuleList([*parts, Upsample(width_out)] if up else parts)

        self.down = nn.ModuleList([nn.ModuleList([nn.Conv2d(4, width, 3, padding=1)])])
        skips, current = [width], width
        for level, (size, depth) in enumerate(zip(widths, depths, strict=True)):
            for _ in range(2):
                self.down.append(stage(current, size, depth))
                current = size
                skips.append(current)
            if level < len(widths) - 1:
                self.down.append(nn.ModuleList([nn.Conv2d(current, current, 3, stride=2, padding=1)]))
                skips.append(current)
        self.middle = nn.ModuleList(
            [*stage(current, current, depths[-1]), ResBlock(current, current, self.time_width, 1e-5)]
        )
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for index in range(3):
                self.up.append(
                    stage(current + skips.pop(), widths[level], depths[level], level > 0 and index == 2)
                )
                current = widths[level]
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1))

    def forward(self, x: Tensor, context: Tensor, vector: Tensor, time: float = 999.0) -> Tensor:
        frequencies = torch.exp(
            -math.log(10000.0) * torch.arange(self.width // 2, device=x.device) / (self.width // 2)
        )
        waves = torch.cat([torch.cos(time * frequencies), torch.sin(time * frequencies)]).to(x.dtype)
        embedding = self.time(waves[None]) + self.label(vector)
        skips = []
        for parts in self.down:
            x = _through(parts, x, embedding, context)
            skips.append(x)
        x = _through(self.middle, x, embedding, context)
        for parts in self.up:
            x = _through(parts, torch.cat([x, skips.pop()], dim=1), embedding, context)
        return self.out(x)


def _two_layers(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width_out), nn.SiLU(), nn.Linear(width_out, width_out))


def _through(parts: nn.Module, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
    for part in parts.children():
        if isinstance(part, ResBlock):
            x = part(x, embedding)
        elif isinstance(part, SpatialTransformer):
            x = part(x, context)
        else:
            x = part(x)
    return x


@torch.no_grad()
def random_weights(model: nn.Module, device: str) -> nn.Module:
    """Fill a model made on the meta device, weight by weight: no second copy in memory. Eval and frozen."""
    model = model.to_empty(device=device)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            bound = (3.0 / parameter[0].numel()) ** 0.5  # keeps the variance, so that activations stay finite
            parameter.uniform_(-bound, bound)
    return model.eval().requires_grad_(False)


def build(kind: type[nn.Module], device: str, **shape: object) -> nn.Module:
    """A model of this kind with random weights."""
    with torch.device("meta"):
        model = kind(**shape)
    return random_weights(model, device)


def parameters(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def clip_config(patch: int, grid: int, embed: int, text: int, channels: int = 4) -> LatentCLIPConfig:
    """A CLIP of ViT-B width: on SDXL latents with 4 channels, on pixels with 3."""
    return LatentCLIPConfig(
        embed_dim=embed,
        channels=channels,
        patch_size=patch,
        grid=grid,
        vision_width=768,
        vision_layers=12,
        vision_heads=12,
        text_width=text,
        text_layers=12,
        text_heads=text // 64,
        context_length=77,
        vocab_size=49408,
        latent_space="sdxl" if channels == 4 else "pixels",
        tokenizer="clip-bpe",
    )


LATENT_CLIPS = {"B/8": clip_config(8, 8, 512, 512), "B/4-plus": clip_config(4, 16, 640, 640)}
PIXEL_CLIPS = {
    "B/32": clip_config(32, 7, 512, 512, channels=3),
    "B/16": clip_config(16, 14, 512, 512, channels=3),
}


def with_layers(config: LatentCLIPConfig, layers: int) -> LatentCLIPConfig:
    """The same shape with fewer blocks in both towers, for trial runs."""
    return replace(config, vision_layers=layers, text_layers=layers)


def clip(config: LatentCLIPConfig, device: str) -> LatentCLIP:
    """A CLIP of this shape with random weights, frozen."""
    model = LatentCLIP(config).to(device)
    return model.eval().requires_grad_(False)


def pixel_embedding(model: LatentCLIP, pixels: Tensor) -> Tensor:
    """What a pixel CLIP does with a decoded picture [B, 3, H, W]: shrink to its 224 px, encode."""
    size = model.config.patch_size * model.config.grid
    small = F.interpolate(pixels, (size, size), mode="bicubic", align_corners=False, antialias=True)
    return F.normalize(model.visual(small), dim=-1)


def embedder(kind: str, model: LatentCLIP) -> Callable[[Tensor], Tensor]:
    """What a "latent" CLIP makes of latents, or a "pixel" CLIP of a decoded picture."""
    return model.encode_latents if kind == "latent" else partial(pixel_embedding, model)


def input_gradient(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The gradient of some of a function's results with respect to its input."""
    leaf = z.detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaf).flatten(1)[:, ::7].sum(), leaf)[0]


def named_clips(device: str, layers: int = 12) -> Iterator[tuple[str, str, LatentCLIP]]:
    """Kind ("latent" or "pixel"), name and model of the four CLIPs."""
    for kind, configs in (("latent", LATENT_CLIPS), ("pixel", PIXEL_CLIPS)):
        for name, config in configs.items():
            yield kind, name, clip(with_layers(config, layers), device)
