"""What the wires carry: Latent-CLIPs that the host loads and offloads, and rewards that ask them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.ops
import torch
from comfy.cli_args import args
from torch import Tensor

from ... import lclip
from ...lclip.latents import advice
from ...lclip.latents.checks import broken_doubt
from ...lclip.latents.siblings import sibling_doubt
from ...lclip.model import graphs
from ...lclip.model.memory import EmbeddingMemory
from ...lclip.rewards.per_item import of_batch
from ...lclip.rewards.rewards import RewardSum
from .memory import ordinary_tensors, working_memory
from .patcher import WholePatcher

advice.speak(advice.IN_A_GRAPH)


class LoadedLatentCLIP:
    """What a LATENT_CLIP wire carries: a Latent-CLIP that the host loads on use and offloads at will."""

    embeds = True
    """Whether it has embeddings, which more than a reward can be made of."""

    def __init__(self, model: lclip.LatentCLIP, name: str) -> None:
        self.model = model
        self.name = name
        self.patcher = WholePatcher(
            model, management.get_torch_device(), management.text_encoder_offload_device()
        )
        # The towers are small: the maths runs in float32 whatever the weights are stored in.
        model.compute_device = self.patcher.load_device
        model.compute_dtype = torch.float32
        model.memory = EmbeddingMemory()  # of a graph's nodes: Score, Select and the gate read one batch once
        model.free_bytes = partial(management.get_free_memory, self.patcher.load_device)
        if not getattr(args, "disable_cuda_graphs", False):  # the host's own switch, where it has one
            graphs.keep(model, free_bytes=model.free_bytes)

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

    def working_memory(self, latents: Tensor) -> int:
        """Bytes that a forward pass of this batch takes on the device, about."""
        return working_memory(self.config, latents)

    def gradient_memory(self, height: int, width: int, items: int) -> int:
        """Bytes that the gradient of a batch of latents of that size takes on the device, about."""
        return self.model.gradient_memory(height, width, items)

    def check(self, latents: Tensor) -> list[str]:
        """What is odd about a batch, in words; it is logged too. ValueError for one that cannot be read."""
        text = lclip.check_latents(latents, self.config)
        return text.splitlines() if text else []

    def cautions(self, latents: Tensor | None = None, texts: Sequence[str] = ()) -> list[str]:
        """What is odd about a batch, and what the model cannot read of texts, for a node to show."""
        odd = [] if latents is None else lclip.latent_doubts(latents, self.config)
        return [*odd, *lclip.text_doubts(self.model, texts)]

    def cautions_of_examples(self, latents: Tensor, who: str) -> list[str]:
        """What is odd about a batch to learn from or to compare with, where a broken item does not count."""
        of_scale = lclip.scale_doubt(latents, self.config)
        texts = (broken_doubt(latents, "is left out"), of_scale)
        found = [f"{who} {line}" for text in texts if text for line in text.splitlines()]
        return [*found, *(f"{who}: {text}" for text in self._doubts_of_space(latents, of_scale))]

    def doubts_of_space(self, latents: Tensor) -> list[str]:
        """That a batch looks like another model's of the same shape, where its scale is as it should be."""
        return self._doubts_of_space(latents, lclip.scale_doubt(latents, self.config))

    def _doubts_of_space(self, latents: Tensor, of_scale: str | None) -> list[str]:
        text = None if of_scale else sibling_doubt(latents, self.config)
        return [text] if text else []


@dataclass(frozen=True)
class WiredReward:
    """What a LATENT_REWARD wire carries: rewards, and the models that must be loaded to ask them."""

    reward: Any
    models: tuple[LoadedLatentCLIP, ...]
    cautions: tuple[str, ...] = ()
    """What those who use it should know of it, such as words that its Latent-CLIP does not know."""

    def ready(self, latents: Tensor | None = None) -> Any:
        """The reward, with its models on their compute device."""
        load_together(self.models, latents)
        return self.reward

    def of_batch(self, size: int, numbers: Sequence[int] | None = None) -> WiredReward:
        """For a batch of that size; numbers: what its LATENT calls the items, see `numbers_of`."""
        return replace(self, reward=of_batch(self.reward, size, numbers))

    def check(self, latents: Tensor) -> list[str]:
        """The same by all its models, each text once, after what is to be known of the reward itself."""
        odd = (text for loaded in dict.fromkeys(self.models) for text in loaded.check(latents))
        return list(dict.fromkeys((*self.cautions, *odd)))

    @property
    def eyes(self) -> LoadedLatentCLIP | None:
        """The first of its models that has embeddings: a Latent-CLIP, where it asks one."""
        return next((loaded for loaded in self.models if loaded.embeds), None)

    @property
    def space(self) -> str:
        """The name of the latent space that the reward reads."""
        return self.models[0].config.latent_space if self.models else ""


def load_together(
    models: Iterable[LoadedLatentCLIP], latents: Tensor | None = None, others: Iterable = ()
) -> None:
    """Bring Latent-CLIPs (and other patchers) onto the device in one go, so that none evicts another.

    Whole, because gradients do not pass through a partly loaded model.
    """
    models = list(dict.fromkeys(models))
    room = sum(loaded.working_memory(latents) for loaded in models) if latents is not None else 0
    patchers = list(dict.fromkeys([*others, *(each for loaded in models for each in loaded.patchers)]))
    management.load_models_gpu(patchers, memory_required=room, force_full_load=True)


def load_beside(guider: Any, models: Iterable[LoadedLatentCLIP], room: float, whole: bool) -> None:
    """Bring the model that a guider samples with in, and Latent-CLIPs beside it: in one go, so that nothing
    evicts another; what is in stays in. room: bytes to leave free; whole: no part is left out."""
    patchers = [guider.model_patcher, *guider.loaded_models]
    for patcher in (each for loaded in models for each in loaded.patchers):
        if not any(patcher.is_clone(other) for other in patchers):  # guidance may have brought it
            patchers.append(patcher)
    management.load_models_gpu(patchers, memory_required=room, force_full_load=whole)


def wire_reward(
    reward: Any, models: tuple[LoadedLatentCLIP, ...], cautions: Iterable[str] = ()
) -> WiredReward:
    """A single reward and the Latent-CLIPs that it asks, as they go onto a wire."""
    return WiredReward(RewardSum([reward]), models, tuple(cautions))


def add_reward(first: WiredReward | None, own: WiredReward) -> WiredReward:
    """A reward, added to what came over the wire, if anything did."""
    if first is None:
        return own
    cautions = dict.fromkeys((*first.cautions, *own.cautions))
    return WiredReward(RewardSum([first.reward, own.reward]), (*first.models, *own.models), tuple(cautions))


def load_latent_clip(
    path: str | Path,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    size_rule: str | None = None,
) -> LoadedLatentCLIP:
    """Read a checkpoint from disk into layers that the host manages.

    dtype: how the weights are kept; None is float16 on a GPU, where memory is short, and float32 elsewhere.
    """
    if dtype is None:
        dtype = torch.float32 if management.is_device_cpu(management.get_torch_device()) else torch.float16
    with ordinary_tensors():
        model = lclip.load(path, dtype=dtype, operations=comfy.ops.manual_cast, size_rule=size_rule)
    return LoadedLatentCLIP(model, name or os.path.basename(path))
