"""A few of the pictures that were evaluated, kept for the page across interruptions."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..data.items import LatentItem
from ..data.pictures import as_rgb
from .making import save_picture
from .results import Shown

NUMBER, SIDE = 12, 192


class Gallery:
    """The first pictures that are seen, as PNG files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.count = len(self._files())

    def __call__(self, seen: Image.Image | LatentItem) -> None:
        """Keep it if there is room. Latents are shown by three of their channels: nothing is decoded."""
        if self.count >= NUMBER:
            return
        if isinstance(seen, LatentItem):
            if seen.latents is None:
                return
            picture = channels_as_colours(seen.latents)
        else:
            picture = as_rgb(seen)
        save_picture(picture.resize((SIDE, SIDE)), self.folder / f"{self.count:02}.png")
        self.count += 1

    def clear(self) -> None:
        """Begin anew."""
        for path in self._files():
            path.unlink()
        self.count = 0

    def shown(self, text: str) -> list[Shown]:
        """What is kept, each with the same line below it."""
        return [Shown(path.read_bytes(), text) for path in self._files()]

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.png"))[:NUMBER]


def channels_as_colours(z: Tensor) -> Image.Image:
    """The first three channels of latents [C, h, w], each spread over 0..1."""
    planes = z[:3].float().nan_to_num(0.0, 0.0, 0.0)
    low, high = planes.amin((1, 2), keepdim=True), planes.amax((1, 2), keepdim=True)
    planes = ((planes - low) / (high - low).clamp(min=1e-6)).expand(3, -1, -1)
    return Image.fromarray((planes * 255).to(torch.uint8).permute(1, 2, 0).numpy())
