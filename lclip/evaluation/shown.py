"""A few of the pictures that were made, for the page: the same prompts in every variant."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..data.pictures import as_rgb
from .gallery import SIDE
from .journal import Journal
from .making import GREY, Batch, Layout
from .results import Shown

PROMPTS = 4


def pictures_of(
    batch: Batch, journal: Journal, layout: Layout, hidden: Callable[[dict], bool] = lambda row: False
) -> list[Shown]:
    """The first sample of the first prompts in every variant. hidden: whose rows are shown as grey."""
    shown = []
    for prompt in batch.prompts.prompts[:PROMPTS]:
        for variant in batch.variants:
            path = layout(variant, prompt, 0)
            row = next(
                (r for r in journal.rows(variant) if r["prompt"] == prompt.place and r["sample"] == 0), None
            )
            if row is None or row.get("error") or not path.exists():
                continue
            text = f"{variant}: {'not shown' if hidden(row) else prompt.text}"
            shown.append(Shown(_small(None if hidden(row) else path), text))
    return shown


def _small(path: Path | None) -> bytes:
    picture = Image.new("RGB", (SIDE, SIDE), GREY)
    if path is not None:
        with Image.open(path) as opened:
            picture = as_rgb(opened)
    content = io.BytesIO()
    picture.resize((SIDE, SIDE)).save(content, "PNG")
    return content.getvalue()
