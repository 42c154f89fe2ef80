"""Where tensors are: room for a pass, tensors that may take part in gradients, results brought back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import comfy.model_management
import torch
from torch import Tensor

from ...lclip.model.passes import MOST_BYTES, pass_bytes

if TYPE_CHECKING:
    from ... import lclip


def working_memory(config: lclip.LatentCLIPConfig, latents: Tensor) -> int:
    """Bytes for a forward pass of this batch, or for one of the passes that it is split into."""
    tokens = max(config.grid**2, latents.shape[-2] * latents.shape[-1] // config.patch_size**2) + 1
    item = pass_bytes(tokens, config.vision_width)
    return max(item, min(MOST_BYTES, len(latents) * item))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device had no memory left. Not every device and call says so by torch's own class: newer
    hosts know their codes (`is_oom`), and all say it in words."""
    known = vars(comfy.model_management).get("is_oom")
    if isinstance(error, torch.cuda.OutOfMemoryError) or (known is not None and known(error)):
        return True
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Nodes run in inference mode, whose tensors never take part in gradients; weights made here may."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def to_host(result: Tensor) -> Tensor:
    """Results leave a node on the device that the host keeps intermediate values on."""
    return result.detach().to(device=comfy.model_management.intermediate_device(), dtype=torch.float32)
