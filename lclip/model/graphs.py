"""The image tower as CUDA graphs: one launch per pass instead of hundreds.

A tower of CLIP's size has so little to do for a few pictures that a GPU waits for most of its kernels to be
launched. What is captured belongs to the tower: it lives as long as the weights stay where they are, and
ends with the tower, with `drop`, or where the weights are found elsewhere. A tower holds what was captured,
and nothing of it holds the tower. Whatever goes wrong, the tower runs as it is, and the log says so. While
somebody else records a graph of their own, as ComfyUI does since 0.33.1, nothing is captured, replayed or
given back, which would end that record: the tower's kernels become a part of that one.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .captured import CapturedPasses as _CapturedPasses
from .captured import recording as _recording
from .captured import settle, trim_graph_memory
from .passes import FreeBytes, float32_bytes, gradient_bytes, pass_bytes
from .vision import VisionTower

logger = logging.getLogger("latent-clip")

SWITCH = "LATENT_CLIP_CUDA_GRAPHS"
"""An environment variable: with the value 0, nothing is captured, and what was is dropped."""
MOST_PATCHES = 1024
"""In one pass: 16 pictures of B/8, four of B/4-plus, or one of B/4-plus that it sees whole at 1024 px. Beyond
it the kernels outlast their launches."""
MOST_SHAPES = 2
"""For which a tower keeps graphs at a time: the one that was used longest ago makes room."""
MOST_REMEMBERED = 16
"""Shapes that were seen once, and are captured when they come again."""


@contextmanager
def graphed(*models: nn.Module) -> Iterator[None]:
    """Within, image towers on an NVIDIA GPU replay CUDA graphs, with gradients and without.

    models: Latent-CLIPs, or modules that hold some. Open it around a search or a guided sampling. The first
    pass of a shape runs as it is, the second is captured, and all further ones are replayed; weights may move
    or change in between. Memory, until the end: what one pass leaves for its gradient, and the weights in
    float32 where they are kept smaller; B/8 was seen to take 0.1 and 0.5 GB. Where nothing can be captured
    (another device, training, large batches, an error of the driver) everything runs as without, and so it
    does where the environment variable LATENT_CLIP_CUDA_GRAPHS is 0. Towers that keep graphs (`keep`) go on.
    """
    own = keep(*models)
    try:
        yield
    finally:
        for tower in own:
            tower.__dict__.pop("forward").forget()


def keep(*models: nn.Module, free_bytes: FreeBytes | None = None) -> list[VisionTower]:
    """From now on their image towers replay CUDA graphs, as in `graphed`. -> those that did not already.

    For a host, whose models outlive a run. free_bytes: what the device can spare; a capture takes no more
    than half of it.
    """
    own = [tower for tower in _towers(*models) if "forward" not in tower.__dict__]
    for tower in own:
        tower.forward = TowerGraphs(tower, free_bytes)
    return own


def drop(*models: nn.Module) -> int:
    """Give back what their towers have captured, before weights are moved. -> bytes, about."""
    freed = kept_bytes(*models)
    for graphs in _graphs_of(*models):
        graphs.forget()
    return freed


def kept_bytes(*models: nn.Module) -> int:
    """What is captured takes so much of the device's memory, about."""
    return sum(graphs.bytes for graphs in _graphs_of(*models))


def _towers(*models: nn.Module) -> list[VisionTower]:
    return list({module: None for m in models for module in m.modules() if isinstance(module, VisionTower)})


def _graphs_of(*models: nn.Module) -> list[TowerGraphs]:
    found = (tower.__dict__.get("forward") for tower in _towers(*models))
    return [graphs for graphs in found if isinstance(graphs, TowerGraphs)]


class TowerGraphs:
    """In the place of a tower's forward: replays where it has captured, least recently used first to go.

    One lock for all: towers may be asked from several threads, and a backward pass comes from torch's own.
    """

    def __init__(self, tower: VisionTower, free_bytes: FreeBytes | None = None) -> None:
        self._tower, self._free_bytes = weakref.ref(tower), free_bytes
        self.weights: list[Hashable] = []
        self.passes: OrderedDict[Hashable, Any] = OrderedDict()
        self.seen: OrderedDict[Hashable, None] = OrderedDict()
        self.broken = False
        self.lock = threading.RLock()

    @property
    def tower(self) -> VisionTower:
        return _alive(self._tower)

    @property
    def bytes(self) -> int:
        return sum(passes.bytes for passes in self.passes.values())

    def plain(self, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The tower's own forward pass."""
        return _plain(self._tower, z, dtype)

    def __call__(self, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        with self.lock:
            try:
                found = self._replayed(z, dtype) if self._usable(z) else None
            except Exception as error:  # whatever it is, the tower itself can do without
                self.give_up(error)
                found = None
        return self.plain(z, dtype) if found is None else found

    def forget(self) -> None:
        """Drop what was captured, and give its memory back; from then on it may be captured again."""
        with self.lock:
            dropped = list(self.passes.values())
            self.passes.clear()
            self.seen.clear()
            self.broken = False
            _release(dropped)

    def give_up(self, error: Exception) -> None:
        """Run as it is, until the weights are somewhere else."""
        with suppress(RuntimeError):  # a device that is lost says so again
            self.forget()
        self.broken = True
        logger.warning("The Latent-CLIP runs without CUDA graphs, more slowly: %s", error)

    def __deepcopy__(self, memo: dict[int, Any]) -> TowerGraphs:
        """Of a tower that is copied: the copy captures for itself."""
        return TowerGraphs(memo.get(id(self.tower), self.tower), self._free_bytes)

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be ending
            self.forget()

    def _usable(self, z: Tensor) -> bool:
        if _recording(z.device):
            return False
        if _waiting:
            _release([])
        if not _has_graphs(z.device):
            if self.passes:
                self.forget()
            return False
        return self._follow_weights(z) and not self.broken and self._patches(z) <= MOST_PATCHES

    def _patches(self, z: Tensor) -> int:
        height, width = self.tower.conv1.kernel_size
        return z.shape[0] * (z.shape[-2] // height) * (z.shape[-1] // width)

    def _follow_weights(self, z: Tensor) -> bool:
        """Forget what was captured with weights elsewhere: a graph would read what lies there now."""
        parameters = list(self.tower.parameters())
        weights: list[Hashable] = [(each.data_ptr(), each.dtype) for each in parameters]
        if weights != self.weights:
            self.weights = weights
            self.forget()
        return all(each.device == z.device and not each.requires_grad for each in parameters)

    def _replayed(self, z: Tensor, dtype: torch.dtype | None) -> Tensor | None:
        with_gradient = z.requires_grad and torch.is_grad_enabled()
        passes = self._passes_for(z, dtype, with_gradient)
        if passes is None:
            return None
        return _Replay.apply(z, passes, self, dtype) if with_gradient else passes.forward(z)

    def _passes_for(self, z: Tensor, dtype: torch.dtype | None, with_gradient: bool) -> Any:
        kind = (tuple(z.shape), z.dtype, dtype, *_settings(z.device))
        known = self.passes.get(kind)
        if known is not None and known.with_gradient >= with_gradient:
            self.passes.move_to_end(kind)
            return known
        if known is None and not self._comes_again(kind):
            return None
        return self._capture(kind, z, dtype, with_gradient)

    def _comes_again(self, kind: Hashable) -> bool:
        """Whether a shape was seen lately; a picture of its own kind is not worth a capture."""
        before = kind in self.seen
        self.seen[kind] = None
        self.seen.move_to_end(kind)
        while len(self.seen) > MOST_REMEMBERED:
            self.seen.popitem(last=False)
        return before

    def _capture(self, kind: Hashable, z: Tensor, dtype: torch.dtype | None, with_gradient: bool) -> Any:
        _release([self.passes.pop(kind)] if kind in self.passes else [])
        while len(self.passes) >= MOST_SHAPES:
            oldest, passes = self.passes.popitem(last=False)
            self.seen.pop(oldest, None)  # shapes in turn, more than are kept, are not captured every time
            released = [passes]
            del passes
            _release(released)
        if self._free_bytes is not None and self._needed(z, with_gradient) > self._free_bytes() / 2:
            return None
        passes = _CapturedPasses(partial(_plain, self._tower, dtype=dtype), z, with_gradient)
        self.passes[kind] = passes
        logger.info("The Latent-CLIP runs as CUDA graphs on latents of shape %s.", list(z.shape))
        return passes

    def _needed(self, z: Tensor, with_gradient: bool) -> int:
        """Bytes that a capture takes, about."""
        tower = self.tower
        tokens, width = self._patches(z) + len(z), tower.positional_embedding.shape[1]
        if not with_gradient:
            return pass_bytes(tokens, width)
        return float32_bytes(tower) + gradient_bytes(tokens, width, len(tower.transformer.resblocks))


def _alive(tower: weakref.ref[VisionTower]) -> VisionTower:
    """The tower; it is what asks."""
    found = tower()
    assert found is not None
    return found


def _plain(tower: weakref.ref[VisionTower], z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return VisionTower.forward(_alive(tower), z, dtype)


def _has_graphs(device: torch.device) -> bool:
    """Whether passes on this device can be captured, and may."""
    return device.type == "cuda" and torch.version.cuda is not None and os.environ.get(SWITCH) != "0"


def _settings(device: torch.device) -> tuple[Hashable, ...]:
    """What chooses torch's kernels: a pass that was captured under other settings would be another one."""
    kernels = torch.backends.cuda
    return (
        torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        *(kernels.flash_sdp_enabled(), kernels.mem_efficient_sdp_enabled(), kernels.math_sdp_enabled()),
    )


_waiting: list[Any] = []
"""What was dropped while somebody recorded a graph, to be given back after that."""


def _release(dropped: list[Any]) -> None:
    """What is dropped must not be in use any more; a gradient that still asks for it is computed anew."""
    while _waiting:
        dropped.append(_waiting.pop())
    devices = {passes.input.device for passes in dropped}
    for place in range(len(dropped)):  # without a name that would hold the last one
        dropped[place].dropped = True
    if any(map(_recording, devices)):
        _waiting.extend(dropped)
        return
    for device in devices:
        settle(device)
    dropped.clear()
    for device in devices:
        trim_graph_memory(device)


class _Replay(torch.autograd.Function):
    """A captured function as a part of torch's own graph."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, passes: Any, graphs: TowerGraphs, dtype: torch.dtype | None) -> Tensor:
        ctx.save_for_backward(z)
        ctx.passes, ctx.graphs, ctx.dtype = passes, graphs, dtype
        features = passes.forward(z)
        ctx.turn = passes.turn
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        graphs: TowerGraphs = ctx.graphs
        with graphs.lock:
            try:
                gradient = None if _recording(cotangent.device) else _replayed_gradient(ctx, cotangent)
            except Exception as error:
                graphs.give_up(error)
                gradient = None
        if gradient is None:
            gradient = _plain_gradient(ctx, cotangent)
        return gradient, None, None, None


def _replayed_gradient(ctx: Any, cotangent: Tensor) -> Tensor | None:
    """None where the graph is gone: the weights that it read may be gone too."""
    if getattr(ctx.passes, "dropped", False):
        return None
    if ctx.turn != ctx.passes.turn:  # another forward pass has come between
        ctx.passes.forward(*ctx.saved_tensors)
    return ctx.passes.backward(cotangent)


def _plain_gradient(ctx: Any, cotangent: Tensor) -> Tensor:
    (z,) = ctx.saved_tensors
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        return torch.autograd.grad(ctx.graphs.plain(leaf, ctx.dtype), leaf, cotangent)[0]
