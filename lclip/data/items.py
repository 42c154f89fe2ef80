"""One latent of a file or shard, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .texts import decoded

MAX_CAPTION_BYTES = 1 << 16


@dataclass(frozen=True)
class LatentItem:
    """One latent of a file or shard, or why there is none."""

    file: str
    """The file or shard it is in."""
    item: str
    """Its place in there: an index in a file, a key in a shard; empty where the file as a whole is meant."""
    latents: Tensor | None
    """[C, H, W], float32, as stored; None where it could not be read."""
    caption: str | None = None
    """The text beside it (KEY.txt), if there is one."""
    problem: str | None = None
    """Why it could not be read."""
    frame: bool = False
    """Whether it was stored as a video of one frame, [C, 1, H, W]."""
    caption_problem: str | None = None
    """Why the text beside it could not be read."""


def readable(name: str | Path) -> str:
    """A file's name as text for tables: valid Unicode, on one line."""
    text = name.as_posix() if isinstance(name, Path) else name
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its type where it says nothing."""
    return readable(" ".join(str(error).split())) or type(error).__name__


def caption(content: bytes) -> str:
    """The text of a caption file. Raises ValueError where it is none in UTF-8, or in UTF-16 with a mark."""
    return decoded(content[:MAX_CAPTION_BYTES], len(content) < MAX_CAPTION_BYTES).strip()
