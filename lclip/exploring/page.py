"""Maps as one self-contained HTML page: pictures, scores and script inside, nothing from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from torch import Tensor

from .explore import ExploredMap

if TYPE_CHECKING:
    from PIL.Image import Image

TEMPLATE, SCRIPT = Path(__file__).with_name("page.html"), Path(__file__).with_name("map.js")
LARGEST_TILE, LARGEST_SHEET = 192, 2048  # pixels a side


def sheet(pictures: Tensor, columns: int) -> Image:
    """Pictures [cells, 3, H, W] in 0..1 side by side, row by row, of a size that a page shows well."""
    from PIL import Image

    rows, (height, width) = math.ceil(len(pictures) / columns), pictures.shape[-2:]
    longest = min(LARGEST_TILE, LARGEST_SHEET // max(columns, rows))
    scale = longest / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    whole = Image.new("RGB", (size[0] * columns, size[1] * rows), "#808080")
    pixels = (pictures.nan_to_num(0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for cell, picture in enumerate(pixels):
        row, column = divmod(cell, columns)
        tile = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        whole.paste(tile, (column * size[0], row * size[1]))
    return whole


def shown_json(found: ExploredMap, picture: str, sheet_size: tuple[int, int]) -> dict[str, object]:
    """What `map.js` shows. picture: the sheet's address."""
    tile = [sheet_size[0] // found.plan.columns, sheet_size[1] // found.plan.rows]
    return {**found.as_json(), "picture": picture, "tile": tile}


def write_page(
    maps: Sequence[ExploredMap],
    pictures: Sequence[Tensor],
    path: Path,
    title: str,
    about: str,
    corners: Sequence[str],
    stamp: str = "",
) -> Path:
    """Write maps of the same corners, each of two axes, with the pictures of their cells [cells, 3, H, W].

    about: a sentence; corners: a line for each; stamp: how it was made. Any text is fine.
    """
    sheets = [sheet(each, found.plan.columns) for each, found in zip(pictures, maps, strict=True)]
    shown = [
        shown_json(found, data_uri(picture), picture.size)
        for found, picture in zip(maps, sheets, strict=True)
    ]
    names = [" and ".join(filter(None, (str(each["x"]), str(each["y"])))) for each in shown]
    page = Template(TEMPLATE.read_text("utf-8")).substitute(
        title=escape(title),
        about=escape(about),
        several="" if len(maps) > 1 else "hidden",
        choices="".join(f"<option>{escape(name)}</option>" for name in names),
        picture=shown[0]["picture"],
        alt=escape(f"{len(maps[0].plan)} pictures in {maps[0].plan.rows} rows, {names[0]}"),
        cautions="".join(f'<p class="caution">Caution: {escape(text)}</p>' for text in _cautions(maps)),
        corners="<ul>" + "".join(f"<li>{escape(line)}</li>" for line in corners) + "</ul>",
        table="".join(_table(found, name) for found, name in zip(maps, names, strict=True)),
        stamp=escape(stamp),
        data=_inside_script(shown),
        script=SCRIPT.read_text("utf-8"),
    )
    path.write_text(page, encoding="utf-8")
    return path


def _cautions(maps: Sequence[ExploredMap]) -> list[str]:
    """What to be careful of, each once."""
    return list(dict.fromkeys(text for found in maps for text in (*found.doubts, *found.notes)))


def data_uri(picture: Image) -> str:
    """A picture inside the page: JPEG, of which many fit."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _table(found: ExploredMap, name: str) -> str:
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in ("place", *found.texts))
    flat = found.scores.flatten(1).T.tolist()
    rows = "".join(
        f"<tr><td>{escape(found.plan.told(cell))}</td>"
        + "".join(f"<td>{value:.4f}</td>" for value in values)
        + "</tr>"
        for cell, values in enumerate(flat)
    )
    return f"<table><caption>{escape(name)}</caption><tr>{heads}</tr>{rows}</table>"


def _inside_script(data: object) -> str:
    """JSON that no HTML reader ends early."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
