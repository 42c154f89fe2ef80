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
from .fitting import fitted, has_map
from .reader import DEFAULT_SIZE_RULE, PLAIN_SIZE_RULE, LatentReader
from .resampling import resample, windows

SizeRule = Callable[[Tensor, LatentReader], Tensor]

Brought = tuple[Tensor, int | None]
"""Whole latents [B, C, h, w] in the size in which a model looks at them, and the side of the square windows
that it looks through; None: it sees them all at once."""


def resize(z: Tensor, reader: LatentReader) -> Brought:
    """One view: the latents stretched to the native square. -> [B, 1, C, native, native]"""
    return resample(z, reader.native_size, reader.native_size), reader.native_size


def crops(z: Tensor, reader: LatentReader) -> Brought:
    """Square views along the longer side, after the shorter side is resampled to the native size.

    Keeps the aspect ratio; neighbours overlap by half or more. A square needs one view, 2:1 needs three.
    """
    native = reader.native_size
    height, width = z.shape[-2:]
    factor = native / min(height, width)
    return resample(z, round(height * factor), round(width * factor)), native


def tiles(z: Tensor, reader: LatentReader) -> Brought:
    """Native-size views over the latents as they are, not downscaled; neighbours overlap by half or more.

    A side shorter than the native size is enlarged to it.
    """
    native = reader.native_size
    height, width = (max(side, native) for side in z.shape[-2:])
    return resample(z, height, width), native


def interpolate(z: Tensor, reader: LatentReader) -> Brought:
    """One view at the size it has, rounded to whole patches; the position embedding is interpolated."""
    patch = reader.patch_size
    height, width = (max(1, round(side / patch)) * patch for side in z.shape[-2:])
    return resample(z, height, width), None


def fit(z: Tensor, reader: LatentReader) -> Brought:
    """The latents that the same picture would have had at the native size, by the space's learned map.

    Square views as by `crops`. A model does so with what there is a map for; see `fit_or_interpolate`.
    """
    return fitted(z, reader), reader.native_size


def fit_or_interpolate(z: Tensor, reader: LatentReader) -> Brought:
    """`fit`; but what no map is for as by `interpolate`: spaces without one, and latents whose shorter side
    is below the native size, which are better read as they are (benchmarks/RESULTS.md).
    """
    if min(z.shape[-2:]) < reader.native_size or not has_map(reader):
        return interpolate(z, reader)
    return fit(z, reader)


Bringing = Callable[[Tensor, LatentReader], Brought]


def viewed(bring: Bringing) -> SizeRule:
    """The rule that brings latents so, behind a check of the batch's form."""

    @wraps(bring)
    def rule(z: Tensor, reader: LatentReader) -> Tensor:
        whole, side = bring(check_form(z, reader.channels, reader.latent_space), reader)
        return whole[:, None] if side is None else windows(whole, side)

    return rule


RULES: dict[str, Bringing] = {
    "resize": resize,
    "crops": crops,
    "tiles": tiles,
    "interpolate": interpolate,
    "fit": fit,
}
SIZE_RULES: dict[str, SizeRule] = {name: viewed(bring) for name, bring in RULES.items()}
READING: dict[str, Bringing] = {**RULES, "fit": fit_or_interpolate}
"""What a model does whose rule has that name."""


def size_rule_named(rule: str | SizeRule | None) -> SizeRule:
    """What a model does by the rule of that name, the default for None; a function is passed through.

    Raises ValueError.
    """
    return rule if callable(rule) else viewed(READING[check_size_rule(rule or DEFAULT_SIZE_RULE)])


def check_size_rule(name: str) -> str:
    """The name, if a rule has it. Raises ValueError."""
    if name not in SIZE_RULES:
        raise ValueError(f"size rule is {name!r}; expected one of {', '.join(SIZE_RULES)}")
    return name


def rule_in_force(name: str, reader: LatentReader) -> str:
    """The rule that latents of the reader's space are read by where that one is asked for: without a map,
    "fit" is "interpolate". Raises ValueError.
    """
    return PLAIN_SIZE_RULE if check_size_rule(name) == "fit" and not has_map(reader) else name
