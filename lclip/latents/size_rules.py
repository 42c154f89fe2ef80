"""How latents of another size than the native one are brought to the model.

A size rule turns latents [B, C, H, W] into views [B, V, C, h, w]; the model embeds every view, and an item's
embedding is the mean of its views', normalised again. All rules are differentiable, treat a whole batch at
once, and return latents of the native size unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from torch import Tensor

from .checks import check_form
from .fitting import fit
from .reader import DEFAULT_SIZE_RULE, LatentReader
from .resampling import resample, windows

SizeRule = Callable[[Tensor, LatentReader], Tensor]


def resize(z: Tensor, reader: LatentReader) -> Tensor:
    """One view: the latents stretched to the native square. -> [B, 1, C, native, native]"""
    return resample(z, reader.native_size, reader.native_size)[:, None]


def crops(z: Tensor, reader: LatentReader) -> Tensor:
    """Square views along the longer side, after the shorter side is resampled to the native size.

    Keeps the aspect ratio; neighbours overlap by half or more. A square needs one view, 2:1 needs three.
    """
    native = reader.native_size
    height, width = z.shape[-2:]
    factor = native / min(height, width)
    return windows(resample(z, round(height * factor), round(width * factor)), native)


def tiles(z: Tensor, reader: LatentReader) -> Tensor:
    """Native-size views over the latents as they are, not downscaled; neighbours overlap by half or more.

    A side shorter than the native size is enlarged to it.
    """
    native = reader.native_size
    height, width = (max(side, native) for side in z.shape[-2:])
    return windows(resample(z, height, width), native)


def interpolate(z: Tensor, reader: LatentReader) -> Tensor:
    """One view at the size it has, rounded to whole patches; the position embedding is interpolated."""
    patch = reader.patch_size
    height, width = (max(1, round(side / patch)) * patch for side in z.shape[-2:])
    return resample(z, height, width)[:, None]


def checked(rule: SizeRule) -> SizeRule:
    """The rule behind a check of the batch's form: a rule may take for granted what it reads."""

    @wraps(rule)
    def apply(z: Tensor, reader: LatentReader) -> Tensor:
        return rule(check_form(z, reader.channels, reader.latent_space), reader)

    return apply


SIZE_RULES: dict[str, SizeRule] = {
    rule.__name__: checked(rule) for rule in (resize, crops, tiles, interpolate, fit)
}


def size_rule_named(rule: str | SizeRule | None) -> SizeRule:
    """The rule of that name, the default for None; a function is passed through. Raises ValueError."""
    return rule if callable(rule) else SIZE_RULES[check_size_rule(rule or DEFAULT_SIZE_RULE)]


def check_size_rule(name: str) -> str:
    """The name, if a rule has it. Raises ValueError."""
    if name not in SIZE_RULES:
        raise ValueError(f"size rule is {name!r}; expected one of {', '.join(SIZE_RULES)}")
    return name
