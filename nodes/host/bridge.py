"""The bridge half of `host`: the host's VAEs as networks that gradients pass through."""

from __future__ import annotations

from typing import Any

import comfy.model_management as management
import torch
from torch import Tensor, nn

from ... import lclip
from . import memory, models
from .spaces import check_vae, vae_space

VAE_GRADIENT = 3
"""What a VAE leaves for its gradient, in multiples of what the host reserves for a pass without: counted in
the layers of SDXL's decoder, which keeps about two."""


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
                VAEDecoder(vae),
                VAEEncoder(own_vae),
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

    def gradient_memory(self, height: int, width: int, items: int) -> int:
        """The Latent-CLIP's, and what the two VAEs leave for a gradient."""
        shape = (items, self.config.channels, height, width)
        item = sum(vae.memory_used_decode(shape, vae.vae_dtype) for vae in self.vaes)
        return super().gradient_memory(height, width, items) + int(VAE_GRADIENT * items * item)


def refuse_video(vae: Any, what: str) -> None:
    """A bridge reads the VAEs of image models. ValueError for a video model's."""
    if getattr(vae, "latent_dim", 2) != 2:
        raise ValueError(
            f"{what} is a video model's; a bridge needs the VAEs of image models. Train Latent Adapter "
            "takes it."
        )


class VAEDecoder(nn.Module):
    """Raw latents -> pixels in 0..1, on the VAE's device and in its precision, with gradients.

    It holds the network, so that whoever makes a model differentiable finds the VAE's weights in it too.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae, self.network = vae, vae.first_stage_model

    def forward(self, z: Tensor) -> Tensor:
        out = self.network.decode(z.to(self.vae.device, self.vae.vae_dtype))
        return self.vae.process_output(out.to(torch.float32).clone())


class VAEEncoder(nn.Module):
    """Pixels in 0..1 -> raw latents, likewise."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae, self.network = vae, vae.first_stage_model

    def forward(self, pixels: Tensor) -> Tensor:
        out = self.network.encode(self.vae.process_input(pixels.to(self.vae.device, self.vae.vae_dtype)))
        return out.to(management.get_torch_device(), torch.float32)
