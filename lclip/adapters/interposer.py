"""City96's published interposers (SD-Latent-Interposer, Apache-2.0) as adapters, in layers of our own.

Files are named by their direction, such as fx-to-xl_interposer-v4.0.safetensors; none come with the library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latents.spaces import space_named
from .adapter import Adapter, AdapterShape

NAME = re.compile(r"(v1|xl|v3|fx|ca)-to-(v1|xl|v3)_interposer-v4(\.\d+)?\.safetensors", re.IGNORECASE)
SPACES = {"v1": "sd1.5", "xl": "sdxl", "v3": "sd3", "fx": "flux", "ca": "cascade-b"}
FIRST_WEIGHT = "head.long.0.weight"


class Interposer(Adapter):
    """[B, C, h, w] raw latents -> [B, c, H, W] raw latents; no standardising, as it was trained."""

    def __init__(self, shape: AdapterShape, device: torch.device | str | None = None) -> None:
        super().__init__(shape)
        with torch.device(device or "cpu"):
            self.head = _Head(shape.source.channels, shape.width)
            self.core = nn.Sequential(
                nn.Identity(),  # where its layout has the resampling of cells
                *(_Block(shape.width) for _ in range(shape.depth)),
                nn.BatchNorm2d(shape.width),
                nn.SiLU(),
            )
            self.tail = nn.Conv2d(shape.width, shape.target.channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Raw latents of the target space, differentiable in z."""
        z = self.check_source(z)
        x = self.head(z.to(self.tail.weight))
        if self.shape.merge > 1:
            x = F.interpolate(x, scale_factor=1 / self.shape.merge, mode="nearest")
        return self.tail(self.core(x))


class _Long(nn.Sequential):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )


class _Head(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.short = nn.Conv2d(inputs, width, 3, padding=1)
        self.long = _Long(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.long(x) + self.short(x))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.long = _Long(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return F.relu(self.long(x) + x)


def interposer_of(name: str, weights: Mapping[str, Tensor]) -> Interposer:
    """The interposer in a file of that name. ValueError for another name, direction or layout."""
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            "an interposer's name says its direction, such as fx-to-xl_interposer-v4.0.safetensors; got "
            f"{name!r}. Give it the name that it was published under"
        )
    source, target = (space_named(SPACES[part.lower()]) for part in found.groups()[:2])
    width = weights[FIRST_WEIGHT].shape[0]
    depth = len({key.split(".")[1] for key in weights if re.fullmatch(r"core\.\d+\.long\.0\.weight", key)})
    model = Interposer(AdapterShape(source, target, width, depth), device="meta")
    expected = {key: list(value.shape) for key, value in model.state_dict().items()}
    for key in expected.keys() | weights.keys():
        got = list(weights[key].shape) if key in weights else None
        if got != expected.get(key):
            raise ValueError(f"its weight {key!r} has shape {got}; expected {expected.get(key)} for {name}")
    model.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in weights.items()},
        assign=True,
    )
    return model
