"""The bridge half of `host`: the host's VAEs as functions that gradients pass through."""

from __future__ import annotations

from typing import Any

import comfy.model_management as management
import torch
from torch import Tensor

from ... import lclip
from ...lclip.adapters.bridge import Decode, Encode
from . import memory, models
from .gradients import make_differentiable
from .spaces import check_vae, vae_space


class BridgedLatentCLIP(models.LoadedLatentCLIP):
    """A Latent-CLIP behind two VAEs, on a wire; the host loads and offloads all three."""

    def __init__(self, base: models.LoadedLatentCLIP, vae: Any, own_vae: Any, latents: str) -> None:
        source = vae_space(vae, latents, "the VAE that made the latents")
        check_vae(own_vae, base.config.latent_space, "own_vae")
        for each, what in ((vae, "the VAE that made the latents"), (own_vae, "own_vae")):
            refuse_video(each, what)
        self.vaes = (vae, own_vae)
        with memory.ordinary_tensors():
            made = lclip.bridge(
                decode_with(vae),
                encode_with(own_vae),
                source.name,
                base.config.latent_space,
                base.config.native_size,
            )
            self.model = lclip.apply_adapter(base.model, made.eval())
        self.name = f"{base.name} behind a bridge from {source.title}"
        self.base = base
        self.patcher = base.patcher

    @property
    def patchers(self) -> tuple[Any, ...]:
        return (*(vae.patcher for vae in self.vaes), *self.base.patchers)

    def ready(self, latents: Tensor | None = None) -> lclip.LatentCLIP:
        model = super().ready(latents)
        for vae in self.vaes:
            make_differentiable(vae.first_stage_model)
        return model


def refuse_video(vae: Any, what: str) -> None:
    """A bridge reads the VAEs of image models. ValueError for a video model's."""
    if getattr(vae, "latent_dim", 2) != 2:
        raise ValueError(
            f"{what} is a video model's; a bridge needs the VAEs of image models. Train Latent Adapter "
            "takes it."
        )


def decode_with(vae: Any) -> Decode:
    """Raw latents -> pixels in 0..1, on the VAE's device and in its precision, with gradients."""

    def decode(z: Tensor) -> Tensor:
        out = vae.first_stage_model.decode(z.to(vae.device, vae.vae_dtype))
        return vae.process_output(out.to(torch.float32).clone())

    return decode


def encode_with(vae: Any) -> Encode:
    """Pixels in 0..1 -> raw latents, likewise."""

    def encode(pixels: Tensor) -> Tensor:
        out = vae.first_stage_model.encode(vae.process_input(pixels.to(vae.device, vae.vae_dtype)))
        return out.to(management.get_torch_device(), torch.float32)

    return encode
