"""One function of one tensor as CUDA graphs: what is captured, replayed and given back.

A CUDA graph (CUDA C++ programming guide, "CUDA graphs") launches all kernels of a pass at once. It computes
what was captured, at the addresses that were captured: for one shape, with the weights where they were.
"""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor


class CapturedPasses:
    """The forward pass of a function of one tensor, and where asked the backward pass, in graphs that share
    their memory.

    RuntimeError where they cannot be captured.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], z: Tensor, with_gradient: bool = True) -> None:
        self.turn, self.with_gradient, self.device = 0, with_gradient, z.device
        # Nodes run in inference mode, whose tensors are not written outside of it: these are ordinary ones.
        with torch.inference_mode(False), torch.set_grad_enabled(with_gradient):
            leaf = z.detach().clone().requires_grad_(with_gradient)
            self.input = leaf.detach()
            self.stream = torch.cuda.current_stream(self.device)
            stream = _capture_stream(self.device)
            stream.wait_stream(self.stream)
            with torch.cuda.stream(stream):
                free = self._capture(function, leaf)
            self.stream.wait_stream(stream)
        self.forward(z)
        if with_gradient:
            self.backward(self.cotangent)  # if the driver has no memory for them, it is told here
        torch.cuda.synchronize(self.device)
        self.bytes = max(0, free - torch.cuda.mem_get_info(self.device)[0])
        """What the device has less since, about: others use it too."""

    def _capture(self, function: Callable[[Tensor], Tensor], leaf: Tensor) -> int:
        """Record the passes, after a first one as it is. -> bytes that were free before."""
        with _refusing_to_wait():
            features = function(leaf)
            self.features = features.detach().clone()
            if self.with_gradient:
                self.gradient, self.cotangent = torch.zeros_like(self.input), torch.zeros_like(features)
                torch.autograd.grad(features, leaf, self.cotangent)
            del features
        torch.cuda.synchronize(self.device)
        free = torch.cuda.mem_get_info(self.device)[0]
        pool = torch.cuda.graph_pool_handle()
        # What leaves a graph was made before it: torch complains of memory that outlives its capture.
        with _captured(pool) as self.forward_graph:
            features = function(leaf)
            self.features.copy_(features.detach())
            if not self.with_gradient:
                del features
        if self.with_gradient:
            with _captured(pool) as self.backward_graph:
                self.gradient.copy_(torch.autograd.grad(features, leaf, self.cotangent)[0])
                del features
        return free

    def forward(self, z: Tensor) -> Tensor:
        self.turn += 1
        self._take_turn()
        self.input.copy_(z)
        self.forward_graph.replay()
        return self.features.clone()

    def backward(self, cotangent: Tensor) -> Tensor:
        """For the input of the last forward pass, once: what that one has left is used up."""
        self.turn += 1
        self._take_turn()
        self.cotangent.copy_(cotangent)
        self.backward_graph.replay()
        return self.gradient.clone()

    def _take_turn(self) -> None:
        """Whoever works on another stream than the last one waits for it: all share one memory."""
        now = torch.cuda.current_stream(self.device)
        if now != self.stream:
            now.wait_stream(self.stream)
            self.stream = now


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


def settle(device: torch.device) -> None:
    """Wait for all that runs on a device, so that nothing is taken away from under it."""
    if device.type == "cuda" and not recording(device):
        torch.cuda.synchronize(device)


def recording(device: torch.device) -> bool:
    """Whether somebody captures a graph on this device: it has no place for others, and who waits ends it."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def trim_graph_memory(device: torch.device) -> None:
    """Give back what the driver keeps for graphs to come: torch's asynchronous allocator never asks it to."""
    if device.type != "cuda" or recording(device) or torch.cuda.get_allocator_backend() != "cudaMallocAsync":
        return
    torch.cuda.synchronize(device)
    with suppress(OSError, AttributeError):
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        driver.cuDeviceGraphMemTrim(torch.cuda.current_device() if device.index is None else device.index)
