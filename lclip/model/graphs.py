"""The image tower as CUDA graphs: one launch per pass instead of hundreds.

A tower of CLIP's size has so little to do for a few pictures that a GPU waits for most of its kernels to be
launched. A CUDA graph (CUDA C++ programming guide, "CUDA graphs") launches all of them at once. It computes
what was captured, at the addresses that were captured: for one shape, with the weights where they were.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .vision import VisionTower

logger = logging.getLogger("latent-clip")

SWITCH = "LATENT_CLIP_CUDA_GRAPHS"
"""An environment variable: with the value 0, nothing is captured."""
MOST_TOKENS = 1024
"""In one pass: 15 pictures of B/8, three of B/4-plus. Beyond it the kernels outlast their launches."""
MOST_SHAPES = 4
"""For which a tower keeps graphs at a time."""


@contextmanager
def graphed(*models: nn.Module) -> Iterator[None]:
    """Within, image towers on an NVIDIA GPU that are asked for gradients replay CUDA graphs.

    models: Latent-CLIPs, or modules that hold some. Open it around a search or a guided sampling. The first
    pass of a shape runs as it is, the second is captured, and all further ones are replayed; weights may move
    or change in between. Memory, until the end: what one pass leaves for its gradient, and the weights in
    float32 where they are kept smaller; B/8 was seen to take 0.1 and 0.5 GB. Where nothing can be captured
    (another device, training, large batches, an error of the driver) everything runs as without, and so it
    does where the environment variable LATENT_CLIP_CUDA_GRAPHS is 0.
    """
    towers = {module for model in models for module in model.modules() if isinstance(module, VisionTower)}
    own = {tower: _ReplayedTower(tower) for tower in towers if "forward" not in tower.__dict__}
    for tower, replayed in own.items():
        tower.forward = replayed
    try:
        yield
    finally:
        for tower, replayed in own.items():
            del tower.forward
            replayed.forget()


class _ReplayedTower:
    """A tower's forward, replayed where it has been captured."""

    def __init__(self, tower: VisionTower) -> None:
        self.tower, self.plain = tower, tower.forward
        self.weights: list[int] = []
        self.passes: dict[Any, _CapturedPasses | None] = {}  # by kind of input; None: seen once
        self.broken = False

    def forget(self) -> None:
        """Drop what was captured, and give its memory back."""
        devices = {passes.input.device for passes in self.passes.values() if passes is not None}
        self.passes.clear()
        for device in devices:
            _trim_graph_memory(device)

    def __call__(self, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        usable = not self.broken and _has_graphs(z.device) and self._worth_it(z) and self._follow_weights(z)
        passes = self._passes_for(z, dtype) if usable else None
        return self.plain(z, dtype) if passes is None else _Replay.apply(z, passes)

    def _worth_it(self, z: Tensor) -> bool:
        height, width = self.tower.conv1.kernel_size
        tokens = z.shape[0] * (1 + (z.shape[-2] // height) * (z.shape[-1] // width))
        return tokens <= MOST_TOKENS

    def _follow_weights(self, z: Tensor) -> bool:
        """Forget what was captured with weights elsewhere: a graph would read what lies there now."""
        parameters = list(self.tower.parameters())
        weights = [parameter.data_ptr() for parameter in parameters]
        if weights != self.weights:
            self.weights = weights
            self.forget()
        return all(each.device == z.device and not each.requires_grad for each in parameters)

    def _passes_for(self, z: Tensor, dtype: torch.dtype | None) -> _CapturedPasses | None:
        kind = (z.shape, z.dtype, dtype)
        passes = self.passes.get(kind)
        if passes is not None or not (z.requires_grad and torch.is_grad_enabled()):
            return passes
        if kind in self.passes:
            self.passes[kind] = self._capture(z, dtype)
        elif len(self.passes) < MOST_SHAPES:
            self.passes[kind] = None
        return self.passes.get(kind)

    def _capture(self, z: Tensor, dtype: torch.dtype | None) -> _CapturedPasses | None:
        try:
            passes = _CapturedPasses(partial(self.plain, dtype=dtype), z)
        except RuntimeError as error:  # the driver's and the allocator's errors are of this class
            logger.warning("The Latent-CLIP runs without CUDA graphs, more slowly: %s", error)
            self.broken = True
            return None
        logger.info("The Latent-CLIP runs as CUDA graphs on latents of shape %s.", list(z.shape))
        return passes


def _has_graphs(device: torch.device) -> bool:
    """Whether passes on this device can be captured, and may."""
    return device.type == "cuda" and torch.version.cuda is not None and os.environ.get(SWITCH) != "0"


class _CapturedPasses:
    """The forward and the backward pass of a function of one tensor, in graphs that share their memory.

    RuntimeError where they cannot be captured.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], z: Tensor) -> None:
        self.turn = 0
        leaf = z.detach().clone().requires_grad_()
        self.input, self.gradient = leaf.detach(), torch.zeros_like(leaf)
        stream = _capture_stream(z.device)
        stream.wait_stream(torch.cuda.current_stream(z.device))
        with torch.cuda.stream(stream), torch.enable_grad():
            with _refusing_to_wait():
                features = function(leaf)
                self.features, self.cotangent = features.detach().clone(), torch.zeros_like(features)
                torch.autograd.grad(features, leaf, self.cotangent)
                del features
            pool = torch.cuda.graph_pool_handle()
            # What leaves a graph was made before it: torch complains of memory that outlives its capture.
            with _captured(pool) as self.forward_graph:
                features = function(leaf)
                self.features.copy_(features.detach())
            with _captured(pool) as self.backward_graph:
                self.gradient.copy_(torch.autograd.grad(features, leaf, self.cotangent)[0])
                del features
        torch.cuda.current_stream(z.device).wait_stream(stream)
        self.forward(z)
        self.backward(self.cotangent)  # if the driver has no memory for them, it is told here

    def forward(self, z: Tensor) -> Tensor:
        self.turn += 1
        self.input.copy_(z)
        self.forward_graph.replay()
        return self.features.clone()

    def backward(self, cotangent: Tensor) -> Tensor:
        """For the input of the last forward pass, once: what that one has left is used up."""
        self.turn += 1
        self.cotangent.copy_(cotangent)
        self.backward_graph.replay()
        return self.gradient.clone()


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all captures: libraries keep a workspace per stream for good."""
    return torch.cuda.Stream(device)


@contextmanager
def _refusing_to_wait() -> Iterator[None]:
    """RuntimeError for what waits for the GPU: within a capture it could end the process."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():  # torch says once that it may not notice everything
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def _captured(pool: Any) -> Iterator[torch.cuda.CUDAGraph]:
    """Record what the current stream is asked to do. Unlike `torch.cuda.graph`, keeps torch's cache."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    # Other threads (a server's, a preview's) may use the GPU meanwhile.
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        yield graph
    finally:
        graph.capture_end()


def _trim_graph_memory(device: torch.device) -> None:
    """Give back what the driver keeps for graphs to come: torch's asynchronous allocator never asks it to."""
    if device.type != "cuda" or torch.cuda.get_allocator_backend() != "cudaMallocAsync":
        return
    torch.cuda.synchronize(device)
    with suppress(OSError, AttributeError):
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        driver.cuDeviceGraphMemTrim(torch.cuda.current_device() if device.index is None else device.index)


class _Replay(torch.autograd.Function):
    """A captured function as a part of torch's own graph."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, passes: _CapturedPasses) -> Tensor:
        ctx.save_for_backward(z)
        ctx.passes = passes
        features = passes.forward(z)
        ctx.turn = passes.turn
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        if ctx.turn != ctx.passes.turn:  # another forward pass has come between
            ctx.passes.forward(*ctx.saved_tensors)
        return ctx.passes.backward(cotangent), None
