"""Latent spaces by name: what a VAE's latents look like, and refusals by name where two do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isclose
from typing import TYPE_CHECKING

from .channels import CHANNELS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LatentSpace:
    """What a VAE's raw latents look like, as far as a wrong input can be told from a right one.

    name: as written in checkpoints and adapters. title: as said to people. channels: of the latents.
    factor: pixels per latent cell, each way. scale, shift: a sampler works on (raw - shift) * scale; scale is
    None where each channel has its own. std: mean over the channels of the raw latents' standard deviation,
    over many pictures; None where it is not known. means, stds: of each channel, where a sampler works on
    (raw - mean) / std of each.
    """

    name: str
    title: str
    channels: int
    factor: int
    scale: float | None
    std: float | None
    shift: float = 0.0
    means: tuple[float, ...] | None = None
    stds: tuple[float, ...] | None = None

    @property
    def scaled_down(self) -> bool:
        """Whether latents that were scaled for sampling are smaller than raw ones."""
        if self.stds is not None:
            return (self.std or 0.0) > 1
        return self.scale is not None and self.scale < 1

    def to_sampler(self, raw: Tensor) -> Tensor:
        """Raw latents [B, C, H, W] as a sampler works on them; frames [B, C, 1, H, W] too.

        ValueError where it is not known how.
        """
        scale, shift = self._scaling(raw)
        return (raw - shift) * scale

    def to_raw(self, scaled: Tensor) -> Tensor:
        """Latents [B, C, H, W] of a sampler as they are on a wire: undoes `to_sampler`."""
        scale, shift = self._scaling(scaled)
        return scaled / scale + shift

    def _scaling(self, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        if self.means is not None and self.stds is not None:
            shape = (1, -1, *[1] * (like.ndim - 2))
            planes = [like.new_tensor(values).view(shape) for values in (self.stds, self.means)]
            return 1 / planes[0], planes[1]
        if self.scale is None:
            raise ValueError(f"how {self.title} are scaled for sampling is not known")
        return self.scale, self.shift


def _usual(name: str, title: str, channels: int, factor: int, scale: float, shift: float = 0.0):
    """A space whose scale was chosen, as is usual, to give latents a standard deviation of one."""
    return LatentSpace(name, f"{title} latents", channels, factor, scale, 1 / scale, shift)


def _by_channel(name: str, title: str, factor: int):
    """A space whose sampler works on each channel by its own mean and standard deviation."""
    means, stds = CHANNELS[name]
    std = sum(stds) / len(stds)
    return LatentSpace(name, f"{title} latents", len(stds), factor, None, std, means=means, stds=stds)


def _unmeasured(name: str, title: str, channels: int, factor: int, scale: float | None = None):
    """A space whose raw latents' standard deviation does not follow from one scale."""
    return LatentSpace(name, f"{title} latents", channels, factor, scale, None)


# Channels, factors, scales and shifts as the models' configurations state them.
LATENT_SPACES: dict[str, LatentSpace] = {
    space.name: space
    for space in (
        # The five's standard deviations: of photographs through TAESD, which imitates their VAEs.
        LatentSpace("sdxl", "SDXL latents", 4, 8, 0.13025, 6.5),
        LatentSpace("sd1.5", "SD1.5 latents", 4, 8, 0.18215, 4.27),
        LatentSpace("sd3", "SD3 latents", 16, 8, 1.5305, 0.57, 0.0609),
        LatentSpace("flux", "FLUX latents", 16, 8, 0.3611, 2.14, 0.1159),
        LatentSpace("flux2", "FLUX.2 latents", 128, 16, 1.0, 0.81),
        _usual("sd-x4", "SD x4 upscaler", 4, 4, 0.08333),
        _unmeasured("cascade-c", "Stable Cascade stage C", 16, 42, 1.0),
        _usual("cascade-b", "Stable Cascade stage B", 4, 4, 1 / 0.43),
        _usual("hunyuan-image", "HunyuanImage 2.1", 64, 32, 0.75289),
        # Of video models: single frames are read, as pictures. Qwen-Image uses Wan 2.1's.
        _by_channel("wan2.1", "Wan 2.1", 8),
        _by_channel("wan2.2", "Wan 2.2", 16),
        _by_channel("mochi", "Mochi", 8),
        _unmeasured("seedvr2", "SeedVR2", 16, 8, 1.0),
        _unmeasured("minimax-h3", "MiniMax H3", 24, 16, 1.0),
        _by_channel("qwen-image-2.1", "Qwen-Image 2.1", 16),
        _unmeasured("ming-image", "Ming-Image", 16, 8, 8.0064),
        _unmeasured("ltxv", "LTX-Video", 128, 32, 1.0),
        _unmeasured("cosmos", "Cosmos", 16, 8, 1.0),
        _usual("hunyuan-video", "HunyuanVideo", 16, 8, 0.476986),
        _usual("hunyuan-video-1.5", "HunyuanVideo 1.5", 32, 16, 1.03682),
        _usual("cogvideox", "CogVideoX", 16, 8, 1.15258426),
        _usual("cogvideox-1.5", "CogVideoX 1.5", 16, 8, 0.7),
    )
}


def register_space(space: LatentSpace) -> None:
    """Add a space to the known ones. ValueError for a name that another space has."""
    if LATENT_SPACES.setdefault(space.name, space) != space:
        raise ValueError(f"there is another latent space {space.name!r} already; expected a name of its own")


def space_scaled_by(channels: int, scale: float, shift: float | None = None) -> LatentSpace | None:
    """The known space of so many channels whose latents are scaled so for sampling, or None."""
    wanted = (channels, scale, shift or 0.0)
    known = LATENT_SPACES.values()
    return next((space for space in known if (space.channels, space.scale, space.shift) == wanted), None)


def space_centred(means: Sequence[float], stds: Sequence[float]) -> LatentSpace | None:
    """The known space whose channels are scaled by these means and standard deviations, or None."""
    wanted = (*means, *stds)
    for space in LATENT_SPACES.values():
        known = (*(space.means or ()), *(space.stds or ()))
        if len(known) == len(wanted) and all(map(partial(isclose, abs_tol=1e-3), known, wanted)):
            return space
    return None


def space_title(name: str) -> str:
    """A latent space as said to people, known or not."""
    known = LATENT_SPACES.get(name)
    return known.title if known else f"{name} latents"


def space_named(name: str) -> LatentSpace:
    """The known space of that name. ValueError lists the names."""
    if name not in LATENT_SPACES:
        raise ValueError(
            f"there is no latent space {name!r}; expected one of {', '.join(sorted(LATENT_SPACES))}"
        )
    return LATENT_SPACES[name]


def spaces_of_shape(channels: int, factor: int | None = None) -> list[LatentSpace]:
    """The known spaces with so many channels, and that factor where it is given."""
    return [
        space
        for space in LATENT_SPACES.values()
        if space.channels == channels and factor in (None, space.factor)
    ]


def require_space(reads: str, found: str, reader: str, source: str, advice: str) -> None:
    """Refuse latents of another space than the reader's, by name.

    reader: what reads them, as in "this Latent-CLIP"; source: what the other side does, as in "the model
    makes". Raises ValueError.
    """
    if reads != found:
        raise ValueError(f"{reader} reads {space_title(reads)}; {source} {space_title(found)}. {advice}")


def require_one_space(readers: Iterable[tuple[str, str | None, int | None]], what: str) -> None:
    """Refuse readers of different latents: (who, name of the space, channels) each. Raises ValueError.

    A reader that says neither may read anything.
    """
    stated = [reader for reader in readers if reader[1:] != (None, None)]
    for who, space, channels in stated[1:]:
        first, first_space, first_channels = stated[0]
        if (space, channels) != (first_space, first_channels):
            raise ValueError(
                f"{what}: {first} reads {first_space} latents ({first_channels} channels), {who} reads "
                f"{space} latents ({channels} channels). Use Latent-CLIPs of one latent space."
            )


def require_shape(space: LatentSpace, channels: int, factor: int, source: str, advice: str) -> None:
    """Refuse a VAE that cannot be of a space: its latents have other channels or another factor.

    One that has the same may still be of another space: SD1.5's and SDXL's VAEs look alike. Raises
    ValueError.
    """
    if (channels, factor) == (space.channels, space.factor):
        return
    alike = ", ".join(known.name for known in spaces_of_shape(channels, factor))
    raise ValueError(
        f"{source} makes latents with {channels} channels at 1/{factor} of the picture's side"
        f"{f', as {alike} have' if alike else ''}; expected {space.title}: {space.channels} channels at "
        f"1/{space.factor}. {advice}"
    )
