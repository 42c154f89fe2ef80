"""Pictures of a map's cells: decoded or rough, live while it is rendered, and for the node's widget."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import comfy.utils
import torch
import torch.nn.functional as F
from server import PromptServer
from torch import Tensor

from ...lclip.exploring.explore import ExploredMap
from ...lclip.exploring.page import LARGEST_TILE, data_uri, sheet, shown_json
from ...lclip.exploring.plan import Plan
from .. import draw
from . import memory
from . import spaces as host_spaces
from .explore import Rendered
from .feedback import logger, say, temporary_files

EVENT, SHOWN = "latent-clip.map", "latent_clip_map"
DECODED_AT_ONCE = 4


class Live:
    """Shows a map while it is rendered: rough cells on the widget, and how many are done."""

    def __init__(self, node_id: str | None, plan: Plan, space: str) -> None:
        self.node_id, self.plan, self.space = node_id, plan, space
        self.parts: list[Tensor] = []
        self.bar = comfy.utils.ProgressBar(len(plan))

    def __call__(self, done: int, latents: Tensor) -> None:
        self.parts.append(rough(latents, self.space))
        self.bar.update_absolute(done)
        say(self.node_id, draw.words.said("{done} of {count} cells", done=done, count=len(self.plan)))
        server = getattr(PromptServer, "instance", None)
        if server is None or self.node_id is None:
            return
        seen = torch.cat(self.parts)
        blank = seen.new_full((len(self.plan) - len(seen), *seen.shape[1:]), 0.5)
        picture = sheet(torch.cat([seen, blank]), self.plan.columns)
        tile = [picture.width // self.plan.columns, picture.height // self.plan.rows]
        part = {
            "columns": self.plan.columns, "rows": self.plan.rows, "x": self.plan.x.name,
            "y": self.plan.y.name if self.plan.y else "", "texts": [], "scores": [], "levels": [],
            "contours": [], "uphill": [], "tile": tile, "picture": data_uri(picture),
            "places": [self.plan.told(cell) for cell in range(len(self.plan))],
            "words": draw.maps.map_words(),
        }  # fmt: skip
        server.send_sync(EVENT, {"node": self.node_id, "map": part}, server.client_id)


def rough(latents: Tensor, space: str) -> Tensor:
    """Raw latents [n, C, h, w] -> pictures [n, 3, h, w] in 0..1, on the CPU: nothing is decoded."""
    return host_spaces.preview(latents, space).movedim(-1, 1).float().cpu()


def pictures_of(rendered: Rendered, space: str, vae: Any) -> Tensor:
    """The cells' pictures [cells, 3, h, w], decoded where there is a VAE; once for each map and VAE."""
    if vae is None:
        return rough(rendered.latents, space)
    owner, decoded = rendered.pictures.get("decoded", (lambda: None, None))
    if owner() is not vae:
        decoded = torch.cat([_decoded(vae, part) for part in rendered.latents.split(DECODED_AT_ONCE)])
        rendered.pictures["decoded"] = (weakref.ref(vae), decoded)
    return decoded


def _decoded(vae: Any, latents: Tensor) -> Tensor:
    images = memory.to_host(vae.decode(latents)).cpu()
    images = images.flatten(0, -4).movedim(-1, 1)  # a video's VAE gives frames
    size = images.shape[-2:]
    scale = min(1.0, LARGEST_TILE / max(size))
    return F.interpolate(images, [max(1, round(side * scale)) for side in size], mode="area")


def shown_map(found: ExploredMap, pictures: Tensor, cautions: Sequence[str]) -> Any:
    """For NodeOutput's ui: what the widget shows. The sheet of cells is a temporary file of the host's."""
    picture = sheet(pictures, found.plan.columns)
    try:
        (file,) = temporary_files(draw.charts.as_image([picture]))
    except OSError as error:
        logger.warning("The map shows no pictures: %s", error)
        file = {}
    told = shown_json(found, "", picture.size)
    spoken = [draw.words.told(text) for text in cautions]
    told |= {"file": file, "cautions": spoken, "words": draw.maps.map_words()}
    return {SHOWN: [told]}
