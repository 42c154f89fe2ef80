"""Checks of latents before they are embedded: each mistake has its own text."""

from __future__ import annotations

import logging

from torch import Tensor

from .advice import advice
from .frames import as_pictures, why_no_pictures
from .items import finite_items
from .reader import LatentReader
from .scale import named_items, scale_doubt
from .siblings import sibling_doubt
from .spaces import space_title, spaces_of_shape

logger = logging.getLogger("latent-clip")

READ_BY_CHOICE = ("sdxl", "sd1.5", "sd3", "flux", "flux2")
"""Spaces that an SDXL Latent-CLIP reads as they are, or by an adapter that comes with the library."""


def check_latents(z: Tensor, reader: LatentReader, scale: str = "warn") -> str | None:
    """Check a batch as it came over a wire: shape, channels, finiteness, size and scale.

    Raises ValueError for what the model cannot read. What is odd about some of the items is returned as a
    text, and logged: those that hold NaN or infinity, while others do not, and a scale that looks like noise
    or like latents scaled for sampling. The latter is only likely to be wrong (a plain grey picture is small
    too), so scale says what happens then: "warn" as above, "refuse" raises it as ValueError, "ignore" skips
    that check.
    """
    if scale not in ("warn", "refuse", "ignore"):
        raise ValueError(f"scale is {scale!r}; expected 'warn', 'refuse' or 'ignore'")
    z = check_readable(z, reader)
    if scale == "refuse" and (doubt := scale_doubt(z, reader)) is not None:
        raise ValueError(doubt)
    text = "\n".join(latent_doubts(z, reader, scale != "ignore"))
    if text:
        logger.warning("%s", text)
    return text or None


def latent_doubts(z: Tensor, reader: LatentReader, scale: bool = True) -> list[str]:
    """What is odd about a batch that can be read, in words for whoever made it; nothing is logged.

    scale: whether to doubt the scale too.
    """
    texts = (broken_doubt(z), _doubt_of_kind(z, reader) if scale else None)
    return [line for text in texts if text for line in text.splitlines()]


def _doubt_of_kind(z: Tensor, reader: LatentReader) -> str | None:
    """What is suspicious about the scale; where nothing is, about the space."""
    return scale_doubt(z, reader) or sibling_doubt(z, reader)


def check_readable(z: Tensor, reader: LatentReader) -> Tensor:
    """The batch as pictures [B, C, H, W]. ValueError for a shape it cannot read, or no finite item.

    One frame of a video model's latents, [B, C, 1, H, W], is a picture. An item that is not finite beside
    others that are is left to the reader, whose answer is NaN for it.
    """
    z = check_shape(z, reader)
    if not bool(finite_items(z).any()):
        raise ValueError(_broken(z))
    return z


def check_shape(z: Tensor, reader: LatentReader) -> Tensor:
    """The batch as pictures [B, C, H, W]. ValueError unless its shape is one that the model can read."""
    z = check_form(z, reader.channels, reader.latent_space)
    if min(z.shape[-2:]) < reader.patch_size:
        patch, native = reader.patch_size, reader.native_size
        raise ValueError(
            f"latents are {z.shape[-2]}x{z.shape[-1]} cells; expected at least one patch of {patch}x{patch}. "
            f"The model was trained on {native}x{native}: make the picture larger."
        )
    return z


def check_form(z: Tensor, channels: int | None, space: str | None, who: str = "this Latent-CLIP") -> Tensor:
    """The batch as pictures [B, C, H, W] of floating-point numbers, finite or not. ValueError for another.

    channels, space: what the reader takes, None where it takes any; who: the reader, as said to people.
    """
    wanted = f"[batch, {'channels' if channels is None else channels}, height, width]"
    if not isinstance(z, Tensor):
        raise ValueError(f"latents are a {type(z).__name__}; expected a tensor {wanted}")
    z = as_pictures(z)
    shape = list(z.shape)
    if z.ndim == 3 and z.shape[0] == channels:
        raise ValueError(f"latents have 3 dimensions, shape {shape}; expected {wanted}. {advice().batch}")
    if (why := why_no_pictures(z)) is not None:
        raise ValueError(why)
    if z.shape[0] == 0:
        raise ValueError(f"latents have shape {shape}: the batch is empty; expected at least one item")
    if channels not in (None, z.shape[1]):
        reads = f"{who} reads {space_title(space) if space else 'latents'} with {channels}"
        raise ValueError(f"latents have {z.shape[1]} channels, shape {shape}; {reads}. {_hint(z, channels)}")
    if 0 in z.shape:
        raise ValueError(f"latents have shape {shape}: there is no cell in them; expected {wanted}")
    if not z.is_floating_point():
        raise ValueError(f"latents are {z.dtype}; expected floating-point values, as a VAE gives them")
    if z.element_size() == 1:  # float8, in which torch computes next to nothing
        raise ValueError(
            f"latents are {z.dtype}; expected float16, bfloat16 or float32. Convert them: float8 is for "
            "weights, and too coarse for latents."
        )
    return z


def broken_doubt(z: Tensor, fate: str = "counts as the worst of the batch") -> str | None:
    """Which items hold NaN or infinity while others do not, and what becomes of them; or None."""
    finite = finite_items(z)
    if bool(finite.all()) or not bool(finite.any()):
        return None
    return f"{_broken(z)} Such an item {fate}."


def _broken(z: Tensor) -> str:
    return (
        f"{named_items(~finite_items(z))}: NaN or infinity; expected finite latents. The sampler or VAE "
        "before this overflowed, often in half precision: use fp32 or the fp16-fix VAE."
    )


def _hint(z: Tensor, channels: int | None) -> str:
    if channels is not None and channels == 4 * z.shape[1] and z.shape[1] > 4:
        return (
            f"These may be the same before 2x2 cells are folded into one, as FLUX.2's are: {advice().folded}"
        )
    if z.shape[-1] == channels and not _channels_first(z):
        return advice().channels_last
    return _whose(z.shape[1]) or "Use latents of the VAE that it was trained on."


def _channels_first(z: Tensor) -> bool:
    """Whether the sizes look like [B, C, h, w] of some VAE: SDXL's at 1024 px are 128 wide, and FLUX.2's have
    128 channels."""
    channels, height, width = z.shape[1:]
    return bool(spaces_of_shape(channels)) and (height == width or channels < min(height, width))


def _whose(channels: int) -> str | None:
    """Whose latents have so many channels, and how those are read; None where nobody's are known."""
    known = spaces_of_shape(channels)
    read = [space for space in known if space.name in READ_BY_CHOICE]
    if not known:
        return None
    named = (read or known)[:3]
    titles = ", ".join(space.title.removesuffix(" latents") for space in named)
    whose = f"{titles} latents have {channels}{', and others' if len(known) > len(named) else ''}."
    if read:
        return f"{whose} {advice().chosen}"
    return (
        f"{whose} Wire Bridge Latents by VAEs, train an adapter, or use latents of the VAE that it was "
        "trained on."
    )
