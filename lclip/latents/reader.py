"""What a reader of latents says of those that it reads. A Latent-CLIP's configuration is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .spaces import LatentSpace

DEFAULT_SIZE_RULE = "fit"
"""Of `size_rules.SIZE_RULES`: the best over all sizes, see benchmarks/RESULTS.md. Where there is no learned
map it is `PLAIN_SIZE_RULE`."""

PLAIN_SIZE_RULE = "interpolate"
"""The best that needs no map; and the default before there were maps, so what old policies were read by."""


class LatentReader(Protocol):
    """Which latents something reads: all that checks and size rules need to know of it."""

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        ...

    @property
    def patch_size(self) -> int:
        """Latent cells that are read as one, each way."""
        ...

    @property
    def native_size(self) -> int:
        """Side of the square latents that it was made for, in latent cells."""
        ...

    @property
    def latent_space(self) -> str:
        """The name of the latents' space, known or not."""
        ...

    @property
    def space(self) -> LatentSpace | None:
        """The known latent space of that name, or None."""
        ...


@dataclass(frozen=True)
class NativeSize:
    """The plainest reader: square latents of a known space, cell by cell."""

    space: LatentSpace
    native_size: int
    patch_size: int = 1

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self.space.channels

    @property
    def latent_space(self) -> str:
        """The name of the latents' space."""
        return self.space.name
