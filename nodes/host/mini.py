"""The mini world's networks as the host's MODEL, CLIP and VAE."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import comfy.model_base
import comfy.model_management as management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import torch
from torch import nn


def flow_model(network: nn.Module, format_: Any) -> Any:
    """A MODEL around a rectified-flow network: x_t = (1 - t) x0 + t noise, velocity = noise - x0.

    network: (x, timesteps, context=..., **rest) -> velocity, with timesteps in 0..1000.
    """
    config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
    config.latent_format = format_
    config.sampling_settings = {"shift": 1.0, "multiplier": 1000}
    config.memory_usage_factor = 0.1
    model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType.FLOW)
    model.diffusion_model = network
    return comfy.model_patcher.ModelPatcher(
        model, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )


def text_encoder(stage: nn.Module, tokenizer: Any) -> Any:
    """A CLIP around a text stage and a tokenizer that speak the host's protocol."""
    target = SimpleNamespace(params={}, clip=lambda **_: stage, tokenizer=lambda **_: tokenizer)
    return comfy.sd.CLIP(target, model_options={"dtype": torch.float32})


def autoencoder(network: nn.Module, factor: int, channels: int, space: str) -> Any:
    """A VAE around a network with encode(pixels in -1..1) -> raw latents and decode(raw latents) -> pixels.

    The host makes VAEs from state dicts that it knows: given none it sets its defaults; the rest is set here.
    space: the name of its latents, which no VAE of the host's tells.
    """
    with _without_warning("No VAE weights detected"):
        vae = comfy.sd.VAE(sd={})
    vae.first_stage_model = network.eval()
    vae.latent_clip_space = space
    vae.downscale_ratio = vae.upscale_ratio = factor
    vae.latent_channels = channels
    vae.device, vae.output_device = management.vae_device(), management.intermediate_device()
    vae.vae_dtype = torch.float32
    vae.working_dtypes = [torch.float32]
    pixel_bytes = 256 * 4  # the widest layer: this many float32 values per pixel
    vae.memory_used_encode = lambda shape, dtype: shape[0] * shape[-2] * shape[-1] * pixel_bytes
    vae.memory_used_decode = lambda shape, dtype: shape[0] * shape[-2] * shape[-1] * factor**2 * pixel_bytes
    vae.patcher = comfy.model_patcher.ModelPatcher(
        network, load_device=vae.device, offload_device=management.vae_offload_device()
    )
    return vae


@contextmanager
def _without_warning(text: str) -> Iterator[None]:
    """Hold back one log line of the host that would mislead here."""
    keep: Callable[[logging.LogRecord], bool] = lambda record: text not in record.getMessage()  # noqa: E731
    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
