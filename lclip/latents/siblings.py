"""Latents of a space that looks like another one: SD1.5's in SDXL's place have the same channels and size.

No single number parts them, but fourteen together do for most pictures: the channels' means, spreads and
correlations. What weighs them was fitted to pictures encoded by both, through tiny autoencoders that imitate
the real ones (`python -m benchmarks.sibling_spaces`); what it finds is in benchmarks/RESULTS.md, section
real-guards. So it warns, and never refuses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .frames import as_pictures
from .items import finite_items
from .reader import LatentReader
from .spaces import space_title

UNIT = 6.0  # of means, so that all statistics have one order of magnitude
FEWEST = 256  # cells, below which they are of too little
ALONE, TOGETHER = 1.5, 1.0
"""A batch is called the sibling's where its mean log-odds exceed TOGETHER + ALONE / items."""
STRANGE = 5.0  # mean squared deviation, in standard deviations, from which it is neither space's


@dataclass(frozen=True)
class Sibling:
    """A space that a reader may get in the place of its own.

    The log-odds of it are weights @ statistics + bias. means, stds: of that space's pictures' statistics.
    """

    name: str
    weights: tuple[float, ...]
    bias: float
    means: tuple[float, ...]
    stds: tuple[float, ...]


def statistics(z: Tensor) -> Tensor:
    """Means / UNIT, logarithms of spreads, correlations of channels: [B, C, H, W] -> [B, 2C + C(C-1)/2]."""
    z = as_pictures(z.detach()).float().cpu()
    means, spreads = z.mean((2, 3)), z.std((2, 3)).clamp_min(1e-3)
    unit = ((z - means[..., None, None]) / spreads[..., None, None]).flatten(2)
    pairs = torch.triu_indices(z.shape[1], z.shape[1], 1)
    related = (unit @ unit.transpose(1, 2) / unit.shape[2])[:, pairs[0], pairs[1]]
    return torch.cat([means / UNIT, spreads.log(), related], dim=1)


def log_odds_of(z: Tensor, sibling: Sibling) -> Tensor:
    """Log-odds that an item is the sibling's; -infinity for one unlike all of those. [B, C, H, W] -> [B]"""
    values = statistics(z)
    odds = values @ torch.tensor(sibling.weights) + sibling.bias
    away = (values - torch.tensor(sibling.means)) / torch.tensor(sibling.stds)
    return torch.where(away.square().mean(1) > STRANGE, -torch.inf, odds)


def sibling_doubt(z: Tensor, reader: LatentReader) -> str | None:
    """What is suspicious about the space of a batch that can be read, or None."""
    z = as_pictures(z)
    sibling = _sibling_of(z, reader)
    if sibling is None:
        return None
    z = z[finite_items(z)]
    if not len(z) or not float(log_odds_of(z, sibling).mean()) > TOGETHER + ALONE / len(z):
        return None
    return _text(sibling, reader)


def sibling_doubts(z: Tensor, reader: LatentReader) -> list[str | None]:
    """The same of each item by itself, whatever stands beside it: a row of a table is of no batch."""
    z = as_pictures(z)
    sibling = _sibling_of(z, reader)
    if sibling is None:
        return [None] * len(z)
    odd = (log_odds_of(z, sibling) > TOGETHER + ALONE) & finite_items(z).cpu()
    return [_text(sibling, reader) if each else None for each in odd.tolist()]


def _sibling_of(z: Tensor, reader: LatentReader) -> Sibling | None:
    """Whose a batch may be in the place of the reader's own, where its cells are enough to tell."""
    enough = z.shape[-2] * z.shape[-1] >= FEWEST
    return SIBLINGS.get(reader.latent_space) if enough else None


def _text(sibling: Sibling, reader: LatentReader) -> str:
    return (
        f"these look like {space_title(sibling.name)}, and {space_title(reader.latent_space)} are read here: "
        "both have the same shape. If another model made them, choose it in Load Latent-CLIP (latents), or "
        "the scores mean nothing."
    )


# fmt: off
_OF_SD15 = (
    0.3268, -0.6047, -0.05027, 1.593, -2.337, 1.853, -5.807, -1.065, 0.8923, 1.788, 0.1606, -3.522, -4.267,
    -0.4793,
)
_BIAS = 9.713
_SDXL = (
    (0.5924, 0.07258, 0.4656, -0.1653, 1.977, 1.651, 1.858, 1.55, 0.264, 0.07733, -0.03972, -0.1868, 0.1577,
     -0.02222),
    (1.097, 0.6068, 0.6697, 0.6294, 0.453, 0.3117, 0.2533, 0.2584, 0.3759, 0.2863, 0.3392, 0.243, 0.2365,
     0.3242),
)
_SD15 = (
    (0.7744, 0.2889, 0.0912, -0.107, 1.344, 1.522, 1.209, 1.235, 0.4582, -0.07159, -0.1514, -0.3483, -0.3766,
     0.1729),
    (0.6031, 0.5343, 0.35, 0.4593, 0.2918, 0.3375, 0.2792, 0.3544, 0.2991, 0.3585, 0.397, 0.3532, 0.3491,
     0.388),
)
# fmt: on

SIBLINGS = {
    "sdxl": Sibling("sd1.5", _OF_SD15, _BIAS, *_SD15),
    "sd1.5": Sibling("sdxl", tuple(-weight for weight in _OF_SD15), -_BIAS, *_SDXL),
}
"""By the space that is read."""
