"""Everything that depends on ComfyUI's internals: wire types, folders, memory, models.

Node files describe sockets with the public `comfy_api` and leave the rest to this file: a change of the host
is mended here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_base
import comfy.model_management as memory
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models_base
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor, nn

from .. import lclip
from ..lclip.rewards import RewardSum
from .host_spaces import check_same_space as check_same_space
from .host_spaces import preview as preview

logger = logging.getLogger("latent-clip")


LATENT_CLIP = io.Custom("LATENT_CLIP")
LATENT_REWARD = io.Custom("LATENT_REWARD")
LATENT_SAFETY_POLICY = io.Custom("LATENT_SAFETY_POLICY")

_SCHEMA_FIELDS = {field.name for field in fields(io.Schema)}


def schema(**settings: Any) -> io.Schema:
    """A node's schema, without the entries that an older host does not know (search aliases)."""
    return io.Schema(**{name: value for name, value in settings.items() if name in _SCHEMA_FIELDS})


def advanced(socket: Any) -> Any:
    """Mark an input as a rare knob. Older hosts take no such argument, but pass on extra entries."""
    if hasattr(socket, "advanced"):
        socket.advanced = True
    else:
        socket.extra_dict = {**socket.extra_dict, "advanced": True}
    return socket


def nothing() -> ExecutionBlocker:
    """An output without a value: what hangs on that socket is skipped, silently."""
    return ExecutionBlocker(None)


class LoadedLatentCLIP:
    """What a LATENT_CLIP wire carries: a Latent-CLIP that the host loads on use and offloads at will."""

    def __init__(self, model: lclip.LatentCLIP, name: str) -> None:
        self.model = model
        self.name = name
        self.patcher = comfy.model_patcher.ModelPatcher(
            model,
            load_device=memory.get_torch_device(),
            offload_device=memory.text_encoder_offload_device(),
        )
        # The towers are small: the maths runs in float32 whatever the weights are stored in.
        model.compute_device = self.patcher.load_device
        model.compute_dtype = torch.float32

    @property
    def config(self) -> lclip.LatentCLIPConfig:
        return self.model.config

    @property
    def patchers(self) -> tuple[Any, ...]:
        """All that the host must load for the model to run."""
        return (self.patcher,)

    def ready(self, latents: Tensor | None = None) -> lclip.LatentCLIP:
        """The model, on its compute device, with room for this batch of latents."""
        load_together([self], latents)
        return self.model

    def check(self, latents: Tensor) -> None:
        lclip.check_latents(latents, self.config)


@dataclass(frozen=True)
class WiredReward:
    """What a LATENT_REWARD wire carries: rewards, and the models that must be loaded to ask them."""

    reward: Any
    models: tuple[LoadedLatentCLIP, ...]

    def ready(self, latents: Tensor | None = None) -> Any:
        """The reward, with its models on their compute device."""
        load_together(self.models, latents)
        return self.reward

    def check(self, latents: Tensor) -> None:
        for loaded in self.models:
            loaded.check(latents)

    @property
    def space(self) -> str:
        """The name of the latent space that the reward reads."""
        return self.models[0].config.latent_space if self.models else ""


def wire_reward(reward: Any, models: tuple[LoadedLatentCLIP, ...]) -> WiredReward:
    """A single reward and the Latent-CLIPs that it asks, as they go onto a wire."""
    return WiredReward(RewardSum([reward]), models)


def add_reward(first: WiredReward | None, own: WiredReward) -> WiredReward:
    """A reward, added to what came over the wire, if anything did."""
    if first is None:
        return own
    return WiredReward(RewardSum([first.reward, own.reward]), (*first.models, *own.models))


def add_to_input() -> Any:
    """The socket by which rewards are chained; every reward node has it last."""
    return LATENT_REWARD.Input(
        "add_to", optional=True, tooltip="A reward that this one is added to. Leave open for the first."
    )


def reward_output() -> Any:
    return LATENT_REWARD.Output(display_name="reward", tooltip="This reward, plus what it is added to.")


def load_together(
    models: Iterable[LoadedLatentCLIP], latents: Tensor | None = None, others: Iterable = ()
) -> None:
    """Bring Latent-CLIPs (and other patchers) onto the device in one go, so that none evicts another.

    Whole, because gradients do not pass through a partly loaded model.
    """
    models = list(dict.fromkeys(models))
    room = sum(_working_memory(loaded.config, latents) for loaded in models) if latents is not None else 0
    patchers = list(dict.fromkeys([*others, *(each for loaded in models for each in loaded.patchers)]))
    memory.load_models_gpu(patchers, memory_required=room, force_full_load=True)


def graphed(models: Iterable[LoadedLatentCLIP]) -> AbstractContextManager[None]:
    """Within, their image towers run as CUDA graphs where they can: see `lclip.graphed`."""
    return lclip.graphed(*(loaded.model for loaded in models))


def _working_memory(config: lclip.LatentCLIPConfig, latents: Tensor) -> int:
    """Bytes for one forward pass in float32 at its widest place, the MLP, and as much again to spare."""
    tokens = max(config.grid**2, latents.shape[-2] * latents.shape[-1] // config.patch_size**2) + 1
    return latents.shape[0] * tokens * config.vision_width * 12 * 4 * 2


def load_latent_clip(
    path: str | Path, dtype: torch.dtype | None = None, name: str | None = None
) -> LoadedLatentCLIP:
    """Read a checkpoint from disk into layers that the host manages.

    dtype: how the weights are kept; None is float16 on a GPU, where memory is short, and float32 elsewhere.
    """
    if dtype is None:
        dtype = torch.float32 if memory.is_device_cpu(memory.get_torch_device()) else torch.float16
    with ordinary_tensors():
        model = lclip.load(path, dtype=dtype, operations=comfy.ops.manual_cast)
    return LoadedLatentCLIP(model, name or os.path.basename(path))


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Nodes run in inference mode, whose tensors never take part in gradients; weights made here may."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def to_host(result: Tensor) -> Tensor:
    """Results leave a node on the device that the host keeps intermediate values on."""
    return result.detach().to(device=memory.intermediate_device(), dtype=torch.float32)


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
        model, load_device=memory.get_torch_device(), offload_device=memory.unet_offload_device()
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
    vae.device, vae.output_device = memory.vae_device(), memory.intermediate_device()
    vae.vae_dtype = torch.float32
    vae.working_dtypes = [torch.float32]
    pixel_bytes = 256 * 4  # the widest layer: this many float32 values per pixel
    vae.memory_used_encode = lambda shape, dtype: shape[0] * shape[-2] * shape[-1] * pixel_bytes
    vae.memory_used_decode = lambda shape, dtype: shape[0] * shape[-2] * shape[-1] * factor**2 * pixel_bytes
    vae.patcher = comfy.model_patcher.ModelPatcher(
        network, load_device=vae.device, offload_device=memory.vae_offload_device()
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
