"""The image tower as CUDA graphs: one launch per pass instead of hundreds.

A tower of CLIP's size has so little to do for a few pictures that a GPU waits for most of its kernels to be
launched. A CUDA graph (CUDA C++ programming guide, "CUDA graphs") launches all of them at once. It computes
what was captured, at the addresses that were captured: for one shape, with the weights where they were.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .vision import VisionTower

logger = logging.getLogger("latent-clip")

SWITCH = "LATENT_CLIP_CUDA_GRAPHS"
"""An environment variable: with the value 0, nothing is captured."""
MOST_TOKENS = 1024
"""In one pass. Beyond it the kernels outlast their launches, and the memory that a graph holds is missed."""
MOST_SHAPES = 4
"""For which a tower keeps graphs at a time."""


@contextmanager
def graphed(*models: nn.Module) -> Iterator[None]:
    """Within, image towers on an NVIDIA GPU that are asked for gradients replay CUDA graphs.

    models: Latent-CLIPs, or modules that hold some. Open it around a search or a guided sampling. The first
    pass of a shape runs as it is, the second is captured, and all further ones are replayed; weights may move
    or change in between. Memory: what one pass leaves for its gradient, until the end. Where nothing can be
    captured (another device, training, large batches, an error of the driver) everything runs as without.
    """
    towers = {module for model in models for module in model.modules() if isinstance(module, VisionTower)}
    with ExitStack() as stack:
        for tower in towers:
            if "forward" not in tower.__dict__:  # not within another one
                tower.forward = _ReplayedTower(tower)
                stack.callback(tower.__dict__.pop, "forward")
        yield


class _ReplayedTower:
    """A tower's forward, replayed where it has been captured."""

    def __init__(self, tower: VisionTower) -> None:
        self.tower, self.plain = tower, tower.forward
        self.weights: list[int] = []
        self.passes: dict[Any, _CapturedPasses | None] = {}  # by kind of input; None: seen once
        self.broken = False

    def __call__(self, z: Tensor) -> Tensor:
        usable = not self.broken and _has_graphs(z.device) and self._worth_it(z) and self._follow_weights(z)
        passes = self._passes_for(z) if usable else None
        return self.plain(z) if passes is None else _Replay.apply(z, passes)

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
            self.passes.clear()
        return all(each.device == z.device and not each.requires_grad for each in parameters)

    def _passes_for(self, z: Tensor) -> _CapturedPasses | None:
        kind = (z.shape, z.dtype)
        passes = self.passes.get(kind)
        if passes is not None or not (z.requires_grad and torch.is_grad_enabled()):
            return passes
        if kind in self.passes:
            self.passes[kind] = self._capture(z)
        elif len(self.passes) < MOST_SHAPES:
            self.passes[kind] = None
        return self.passes.get(kind)

    def _capture(self, z: Tensor) -> _CapturedPasses | None:
        try:
            passes = _CapturedPasses(self.plain, z)
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
    """The forward and the backward pass of a function of one tensor, in graphs that share their memory."""

    def __init__(self, function: Callable[[Tensor], Tensor], z: Tensor) -> None:
        self.turn = 0
        pool = torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream(z.device)
        leaf = z.detach().clone().requires_grad_()
        with _captured(stream, pool) as self.forward_graph:
            features = function(leaf)
        self.cotangent = torch.zeros_like(features)
        with _captured(stream, pool) as self.backward_graph:
            (self.gradient,) = torch.autograd.grad(features, leaf, self.cotangent)
        # Without torch's own graph; the memory of what it kept stays the pool's.
        self.input, self.features = leaf.detach(), features.detach()

    def forward(self, z: Tensor) -> Tensor:
        self.turn += 1
        self.input.copy_(z)
        self.forward_graph.replay()
        return self.features.clone()

    def backward(self, cotangent: Tensor) -> Tensor:
        """For the input of the last forward pass."""
        self.cotangent.copy_(cotangent)
        self.backward_graph.replay()
        return self.gradient.clone()


@contextmanager
def _captured(stream: torch.cuda.Stream, pool: Any) -> Iterator[torch.cuda.CUDAGraph]:
    """Record what the GPU is asked to do within. As `torch.cuda.graph`, but leaves torch's cache as it is."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(stream.device)
    with torch.cuda.stream(stream), torch.enable_grad():
        # Other threads (a server's, a preview's) may use the GPU meanwhile.
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            yield graph
        finally:
            graph.capture_end()


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
