"""The processes that train together: who this one is, and what they tell each other."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..model.devices import device_named


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. device: where it computes."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0


@contextmanager
def joined_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that torchrun started; without torchrun, this process trains alone.

    device: a torch device; "auto" takes the accelerator if there is one. Under torchrun each process of a
    machine takes the accelerator of its local rank.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    where = _device(device)
    if alone:
        yield Ranks(device=where)
        return
    # No backend named: gloo for tensors in main memory, the accelerator's own for its tensors.
    dist.init_process_group()
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), where)
        dist.barrier()  # nobody leaves while another still speaks
    finally:
        gc.collect()  # a wrapped model in a cycle would keep the group beyond its end, and abort the process
        dist.destroy_process_group()


def _device(wanted: str) -> torch.device:
    device = device_named(wanted)
    if device.type == "cpu" or device.index is not None:
        return device
    device = torch.device(device.type, int(os.environ.get("LOCAL_RANK", "0")))
    torch.accelerator.set_device_index(device)
    return device


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if world_size() > 1 else 0


def gather_rows(x: Tensor) -> Tensor:
    """The rows of all ranks, in their order: [B, D] -> [world * B, D]. Gradients flow back to every rank."""
    return _Gather.apply(x) if world_size() > 1 else x  # pyright: ignore[reportReturnType]


def gather_objects(value: Any) -> list[Any]:
    """What every rank passed, in their order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


class _Gather(torch.autograd.Function):
    """all_gather whose backward pass gives each rank the sum of what all ranks' losses ask of its rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]
