"""The latent-space half of `host`: which space a MODEL or a VAE is of, and refusals by name."""

from __future__ import annotations

from functools import cache
from typing import Any

import comfy.latent_formats
import torch
from torch import Tensor

from ... import lclip
from ...lclip.latents.frames import as_pictures
from ...lclip.latents.items import item_by_item
from ...lclip.latents.spaces import LatentSpace, require_shape, require_space, spaces_of_shape
from .choices import LATENTS

# The host's classes of latents, by the names of lclip.LATENT_SPACES. Playground 2.5 only scales the latents
# of SDXL's VAE differently for sampling. Not every host has every class.
FORMATS = {
    "SDXL": "sdxl",
    "SDXL_Playground_2_5": "sdxl",
    "SD15": "sd1.5",
    "SD3": "sd3",
    "Flux": "flux",
    "Flux2": "flux2",
    "SD_X4": "sd-x4",
    "SC_Prior": "cascade-c",
    "SC_B": "cascade-b",
    "HunyuanImage21": "hunyuan-image",
    "Wan21": "wan2.1",
    "Wan22": "wan2.2",
    "Mochi": "mochi",
    "LTXV": "ltxv",
    "LTXAV": "ltxv",
    "Cosmos1CV8x8x8": "cosmos",
    "HunyuanVideo": "hunyuan-video",
    "HunyuanVideo15": "hunyuan-video-1.5",
    "CogVideoX": "cogvideox",
    "CogVideoX1_5": "cogvideox-1.5",
    "SeedVR2": "seedvr2",
    "MiniMaxH3Video": "minimax-h3",
    "QwenImage21": "qwen-image-2.1",
    "MingImage": "ming-image",
}
OWN_SPACES = ("mini", "mini-16")
PIXELS = ("ChromaRadiance", "ZImagePixelSpace", "HiDreamO1Pixel", "PixelDiTPixel")
"""Classes of models that work on pixels: they have no latents."""
ADVICE = "Use a Latent-CLIP that was trained on the model's VAE, an adapter, or a model of that family."


class MiniLatentFormat(comfy.latent_formats.LatentFormat):
    """Latents of the mini world or its twin, described as the host wants it."""

    latent_channels = 4

    def __init__(self, about: Any) -> None:
        self.space = about.name
        self.scale_factor, self.shift_factor = about.scale_factor, about.shift
        self.latent_channels = about.channels
        self.latent_rgb_factors = about.rgb_factors
        self.latent_rgb_factors_bias = about.rgb_bias

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent - self.shift_factor) * self.scale_factor

    def process_out(self, latent: Tensor) -> Tensor:
        return latent / self.scale_factor + self.shift_factor


@cache
def latent_format(space: str) -> Any:
    """The host's description of a latent space, or None if it has none."""
    if space in OWN_SPACES:
        from ...lclip.mini.world import load_latent_format

        return MiniLatentFormat(load_latent_format(vae={"mini": "vae", "mini-16": "vae16"}[space]))
    names = [name for name, known in FORMATS.items() if known == space]
    found = getattr(comfy.latent_formats, names[0], None) if names else None
    return None if found is None else found()


def space_of(model: Any) -> str:
    """The name of the latent space that a MODEL makes."""
    found = model.get_model_object("latent_format")
    if isinstance(found, MiniLatentFormat):
        return found.space
    name = type(found).__name__
    return FORMATS.get(name, name)


def check_same_space(model: Any, config: lclip.LatentCLIPConfig) -> None:
    """Refuse a MODEL whose latents the Latent-CLIP cannot read, by name, with what to choose instead."""
    made = space_of(model)
    if any(kind.__name__ in PIXELS for kind in type(model.get_model_object("latent_format")).__mro__):
        raise ValueError(
            "The model works on pixels and has no latents ("
            + made
            + "), so a Latent-CLIP has nothing to read. "
            "Score its pictures with a CLIP for pictures, or use a model with a VAE."
        )
    require_space(config.latent_space, made, "This Latent-CLIP", "the model makes", advice_for(made))


def advice_for(space: str) -> str:
    """How to have latents of that space read."""
    for title, known in LATENTS.items():
        if known == space:
            return f"Choose {title!r} under latents in Load Latent-CLIP."
    return ADVICE


def check_vae(vae: Any, space: str, what: str = "the VAE") -> None:
    """Refuse a VAE that cannot be of a space, as far as it tells: by name, or by channels and factor."""
    advice = f"Wire the VAE of {lclip.space_title(space)}."
    if (own := getattr(vae, "latent_clip_space", None)) is not None:
        require_space(space, own, "This input", f"{what} makes", advice)
    elif space in lclip.LATENT_SPACES:
        known = lclip.space_named(space)
        if space in OWN_SPACES:
            raise ValueError(
                f"{what} is a model's from elsewhere; expected the one of {known.title}. {advice}"
            )
        require_shape(known, *shape_of(vae), what, advice)


def shape_of(vae: Any) -> tuple[int, int]:
    """Channels and factor of a VAE's latents. ValueError for one that does not encode pictures."""
    channels, factor = vae.latent_channels, vae.spacial_compression_encode()
    if not isinstance(factor, int) or getattr(vae, "latent_dim", 2) not in (2, 3):
        raise ValueError(
            f"the VAE makes latents of {channels} channels that are no pictures; expected the VAE of an "
            "image model"
        )
    return channels, factor


def vae_space(vae: Any, chosen: str, what: str) -> LatentSpace:
    """The space of a VAE: as chosen by the user, or, for "auto", what it can be.

    ValueError where the choice does not fit, or where "auto" leaves several, or none.
    """
    own = getattr(vae, "latent_clip_space", None)
    if chosen == "auto" and own is not None:
        return lclip.space_named(own)
    if chosen != "auto":
        check_vae(vae, chosen, what)
        return lclip.space_named(chosen)
    channels, factor = shape_of(vae)
    alike = [space for space in spaces_of_shape(channels, factor) if space.name not in OWN_SPACES]
    if len(alike) == 1:
        return alike[0]
    names = ", ".join(space.name for space in alike) or "none that is known"
    raise ValueError(
        f"{what} makes latents with {channels} channels at 1/{factor} of the picture's side. A VAE does not "
        f"say more, and that may be {names}. Choose the space by name."
    )


def preview(latents: Tensor, space: str) -> Tensor:
    """A rough picture without decoding: raw latents [B, C, h, w] -> [B, h, w, 3] in 0..1.

    In shades of grey where the space is unknown, one grey where an item is not finite.
    """
    rough = item_by_item(lambda shown: _rough(shown, latent_format(space)), as_pictures(latents))
    return torch.nan_to_num(rough, nan=0.5)


def _rough(latents: Tensor, found: Any) -> Tensor:
    if found is None or found.latent_rgb_factors is None or found.latent_channels != latents.shape[1]:
        return _grey(latents.float())
    scaled = _scaled(found, latents.float())
    if (reshape := getattr(found, "latent_rgb_factors_reshape", None)) is not None:
        scaled = reshape(scaled)
    factors = torch.as_tensor(found.latent_rgb_factors, dtype=torch.float32, device=latents.device)  # [C, 3]
    colours = scaled.movedim(1, -1) @ factors
    if found.latent_rgb_factors_bias is not None:
        colours = colours + torch.as_tensor(
            found.latent_rgb_factors_bias, dtype=torch.float32, device=latents.device
        )
    return ((colours + 1) / 2).clamp(0, 1)


def _scaled(found: Any, latents: Tensor) -> Tensor:
    if getattr(found, "latent_dimensions", 2) == 3:  # a video model's format takes frames
        return found.process_in(latents[:, :, None])[:, :, 0]
    return found.process_in(latents)


def _grey(latents: Tensor) -> Tensor:
    grey = latents.mean(1)
    spread = (grey - grey.amin((1, 2), keepdim=True)) / (grey.std((1, 2), keepdim=True) * 4 + 1e-6)
    return spread.clamp(0, 1)[..., None].expand(-1, -1, -1, 3)
