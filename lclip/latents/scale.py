"""What the numbers of raw latents tell of a mistake: noise, latents scaled for sampling, and excess.

Noise is told by what pictures cannot lack: relations. In a picture's latents channels go together and cells
resemble their neighbours; in noise nothing is related to anything, whatever its spread. Measured on the
latents of pictures through tiny autoencoders of five real spaces, which imitate the real ones, and on the
mini world's; see docs/safety.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .advice import advice
from .frames import as_pictures
from .neutral import is_neutral
from .reader import LatentReader
from .spaces import LatentSpace
from .worlds import SMALL_IN

SMALL, LARGE, FAR_OFF = 0.38, 4.0, 8.0
"""Of the space's usual spread: below the first, about zero, lies what was scaled for sampling; above the
second, about the channels' means, no picture; above the third, about zero, none either.
"""

FEWEST = 64  # cells: in fewer, pictures show too little to be told from noise
MANY = 256  # cells, from which every picture that was measured stands far enough from noise
PLENTY = 1024  # cells, from which pictures stand so far from noise that half-noisy ones can be told too
CHANCE, CHANCE_IN_FEW = 5.0, 3.0
"""Standard deviations of what noise shows by chance: of the mini world's 8x8 pictures the whitest of 45,000
shows 4.1, of noise 1 in 170 more than 3.
"""
UNRELATED_CHANNELS, UNRELATED_CELLS = 0.04, 0.15


@dataclass(frozen=True)
class Scales:
    """What was measured of a batch of raw latents, and which items are odd: each [B]."""

    size: Tensor
    """Root mean square about zero, so that a plain colour is not small."""
    noise: Tensor
    small: Tensor
    large: Tensor
    grey: Tensor
    """The plain grey that stands in for a picture; it is nothing else that is odd."""


def measure(z: Tensor, reader: LatentReader) -> Scales:
    """Measure a well-shaped batch [B, C, H, W] or [B, C, 1, H, W]; an item that is not finite is not odd.

    Noise is told in any space, also in an unknown one; what is small or large only where the space's usual
    spread is known, and scaling for sampling changes it.
    """
    values = as_pictures(z.detach()).float()
    size = values.square().mean((1, 2, 3)).sqrt()
    no = torch.zeros_like(size, dtype=torch.bool)
    grey = is_neutral(values, reader.latent_space)
    noise = looks_like_noise(values, reader.native_size) & ~grey
    usual = usual_spread(reader.space)
    if usual is None or reader.space is None:
        return Scales(size, noise, no, no, grey)
    spread = (values - values.mean((2, 3), keepdim=True)).square().mean((1, 2, 3)).sqrt()
    large = (spread > LARGE * usual) | (size > FAR_OFF * usual)
    small = size < SMALL_IN.get(reader.space.name, SMALL) * usual
    return Scales(size, noise, small & ~noise & ~grey, large & ~noise, grey)


def usual_spread(space: LatentSpace | None) -> float | None:
    """The spread of raw latents where wrong ones can be told by it, else None."""
    return None if space is None or space.scale == 1 else space.std


def looks_like_noise(z: Tensor, native: int = 0) -> Tensor:
    """Whether nothing in an item is related to anything: [B, C, H, W] -> bool [B].

    native: the side that the model was made for. Below MANY cells only models that are as small themselves
    tell, whose pictures show enough in them: of 1,440 8x8 crops of photographs in SDXL's latents 32 look like
    noise. Never true below FEWEST cells or 4 a side, or of one plain colour.
    """
    height, width = z.shape[-2:]
    cells = height * width
    fewest = max(FEWEST, min(MANY, native**2)) if native else MANY
    if cells < fewest or min(height, width) < 4:
        return torch.zeros(len(z), dtype=torch.bool, device=z.device)
    centred = z - z.mean((2, 3), keepdim=True)
    powerless = centred.abs().amax((1, 2, 3)) <= 1e-3 * z.abs().amax((1, 2, 3))
    unit = _unit_channels(centred)
    chance = CHANCE if cells >= MANY else CHANCE_IN_FEW
    return (_is_white(unit, chance) | _is_nearly_white(unit)) & ~powerless


def _is_white(unit: Tensor, chance: float) -> Tensor:
    """Whether the relations of every channel with every other one, in the same cell and in the next, are no
    stronger than chance makes them: a portmanteau test, as of the residuals of time series (Hosking 1980).

    The mean of n r^2 over K correlations r of n pairs has mean 1 and variance 2 / K in noise.
    """
    channels, height, width = unit.shape[1:]
    upper = torch.triu_indices(channels, channels, 1, device=unit.device)
    same = (_products(unit, unit) / (height * width))[:, upper[0], upper[1]]
    powers = [(height * width - 1) * same.square()]
    for a, b in ((unit[..., 1:], unit[..., :-1]), (unit[..., 1:, :], unit[..., :-1, :])):
        powers.append(_products(a, b).flatten(1).square() / (a.shape[-2] * a.shape[-1]))
    every = torch.cat(powers, dim=1)
    return every.mean(1) < 1 + chance * (2 / every.shape[1]) ** 0.5


def _is_nearly_white(unit: Tensor) -> Tensor:
    """Whether little of a picture shows through: relations of channels and of neighbours, both weak."""
    channels, height, width = unit.shape[1:]
    cells = height * width
    if cells < PLENTY or channels < 2:
        return torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    related = _products(unit, unit) / cells
    apart = related - torch.diag_embed(related.diagonal(dim1=1, dim2=2))
    between = (apart.square().sum((1, 2)) / (channels * (channels - 1))).sqrt()
    beside = (unit[..., 1:] * unit[..., :-1]).mean((1, 2, 3))
    below = (unit[..., 1:, :] * unit[..., :-1, :]).mean((1, 2, 3))
    return (between < UNRELATED_CHANNELS + cells**-0.5) & (((beside + below) / 2).abs() < UNRELATED_CELLS)


def _unit_channels(centred: Tensor) -> Tensor:
    """Channels of variance one, each scaled by its largest value first: nothing overflows."""
    scaled = centred / centred.abs().amax((2, 3), keepdim=True).clamp_min(1e-30)
    return scaled / scaled.square().mean((2, 3), keepdim=True).sqrt().clamp_min(1e-12)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Sums over the cells of each channel of one times each of the other: [B, C, H, W] -> [B, C, C]."""
    return a.flatten(2) @ b.flatten(2).transpose(1, 2)


def scale_doubts(z: Tensor, reader: LatentReader) -> list[str | None]:
    """Per item of a well-shaped batch of raw latents what is suspicious about its scale, or None."""
    told: list[str | None] = [None] * len(z)
    for mask, text in _findings(z, reader):
        told = [text if odd else before for odd, before in zip(mask.tolist(), told, strict=True)]
    return told


def scale_doubt(z: Tensor, reader: LatentReader) -> str | None:
    """What is suspicious about the scale of a well-shaped batch of raw latents, or None; items are named."""
    found = [f"{named_items(mask)}: {text}" for mask, text in _findings(z, reader)]
    return "\n".join(found) or None


def _findings(z: Tensor, reader: LatentReader) -> Iterator[tuple[Tensor, str]]:
    """Items that are odd in the same way, none of them twice, and how."""
    found = measure(z, reader)
    empty = found.size == 0
    kinds = (
        (empty, _empty),
        (found.noise, _noise),
        (found.small & ~empty, _small),
        (found.large, _large),
        (found.grey, _grey),
    )
    for mask, text in kinds:
        if bool(mask.any()):
            yield mask, text(reader.space, float(found.size[mask].mean()))


def _empty(space: LatentSpace | None, size: float) -> str:
    return "is empty: every value is 0, as before any sampling. Wire what leaves the sampler, or VAE Encode."


def _grey(space: LatentSpace | None, size: float) -> str:
    return "is plain grey, which the safety nodes put in the place of an unsafe picture."


def _noise(space: LatentSpace | None, size: float) -> str:
    return (
        f"looks like noise (neither cells nor channels are related, spread {size:.2g}). Latent-CLIP reads "
        "clean latents: take them after the sampler, or the predicted x0."
    )


def _small(space: LatentSpace | None, size: float) -> str:
    if space is None or space.std is None:
        return f"is nearly empty (spread {size:.2g})"
    usual = f"(spread {size:.2g}; raw {space.title} have about {space.std:.3g})"
    if not space.scaled_down:
        return f"is nearly empty {usual}. Latent-CLIP reads the raw latents of pictures."
    how, back = "scaled", ""
    if space.scale is not None:
        how = f"multiplied by {space.scale:.5g}"
        back = f"divide by {space.scale:.5g}{f' and add {space.shift:g}' if space.shift else ''}, or "
    return (
        f"looks like latents {how} for sampling {usual}. {advice().unscaled.format(back=back)} "
        "A nearly plain picture may look so too."
    )


def _large(space: LatentSpace | None, size: float) -> str:
    usual = f"; raw {space.title} have about {space.std:.3g}" if space is not None and space.std else ""
    return f"is far larger than any picture (spread {size:.2g}{usual}). Were the latents scaled twice?"


def named_items(mask: Tensor) -> str:
    """Which items of a batch, for a text."""
    chosen = [str(i) for i, yes in enumerate(mask.tolist()) if yes]
    shown = ", ".join(chosen[:8]) + (", ..." if len(chosen) > 8 else "")
    return f"latents, batch item {shown} of {len(mask)}"
