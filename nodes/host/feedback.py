"""What a node shows on itself: pictures that stay with its result, and a line of text while it runs."""

from __future__ import annotations

import html
import logging
import random
import string
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
from comfy.cli_args import LatentPreviewMethod, args
from comfy_execution.progress import get_progress_state
from server import PromptServer
from torch import Tensor

from .. import draw

logger = logging.getLogger("latent-clip")

FRAME = 0.1
"""Seconds in which a browser draws a frame and more. Of the states of progress that come within one, newer
frontends (1.58) take the last alone."""
JPEG = {"quality": 90, "subsampling": 0}
"""Colours at full detail: letters and frames are coloured."""
_CAUTIONED: set[tuple[str, str | None]] = set()
"""Nodes that show a caution, by their workflow and their ids."""


def shown(pictures: Tensor) -> Any:
    """For NodeOutput's ui: an IMAGE that the node shows, also when its result comes from the cache.

    Showing is a courtesy: where the host cannot write its temporary files, the result leaves without it.
    """
    try:
        return {"images": temporary_files(pictures), "animated": (False,)}
    except OSError as error:
        logger.warning("The node shows no picture of its result: %s", error)
        return None


def shown_if(show: bool, sheet: Callable[[], Tensor]) -> Any:
    """`shown` of what that draws, or nothing drawn: by the switch of `sockets.show_input`.

    The browser keeps a picture of an earlier run until another comes: a line, drawn once, takes its place.
    """
    return shown(sheet()) if show else _line(draw.words.drawn("No picture: show is off."))


@cache
def _line(text: str) -> Any:
    return shown(draw.sheets.line_sheet(text))


def temporary_files(pictures: Tensor) -> list[dict[str, str]]:
    """Pictures [B, H, W, C] as files where the host writes its previews, named as those: JPEGs, which are
    smaller and sooner written. One that shows what is behind it has four channels, and is a PNG.
    """
    prefix = "ComfyUI_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))
    height, width, channels = pictures.shape[1:]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_temp_directory(), width, height
    )
    found = []
    for number, picture in enumerate(draw.charts.as_pictures(pictures), counter):
        file = f"{name}_{number:05}_.{'png' if channels == 4 else 'jpg'}"
        options: dict[str, Any] = {"compress_level": 1} if channels == 4 else JPEG
        picture.save(Path(folder) / file, **options)
        found.append({"filename": file, "subfolder": subfolder, "type": "temp"})
    return found


def shown_after_previews(pictures: Tensor) -> Any:
    """`shown`, for a node that had live previews while it ran.

    Browsers show the last live preview in the place of a node's own picture, also after the run; Nodes 2.0
    shows it twice. So the last live preview is the node's picture, and then it is taken back.
    """
    if args.preview_method != LatentPreviewMethod.NoPreviews:
        bar = comfy.utils.ProgressBar(1)
        bar.update_absolute(1, 1, ("JPEG", draw.charts.as_pictures(pictures)[0], None))
        _begin_anew()
        time.sleep(FRAME)
        bar.update_absolute(1, 1)
        time.sleep(FRAME)
    return shown(pictures)


def _begin_anew() -> None:
    """Tell the browser that no node runs: it drops the preview of a node that it then sees begin to run."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        state = {"prompt_id": get_progress_state().prompt_id, "nodes": {}}
        server.send_sync("progress_state", state, server.client_id)


def cautioned(hidden: Any, cautions: Sequence[str]) -> Any:
    """For NodeOutput's ui of a node that shows nothing else: its cautions as a picture, or nothing.

    A picture, because text on a node is an event: it is gone with the page, and in Nodes 2.0 with the run.
    The browser keeps a picture until another comes: where one was, it is said that nothing is odd now.
    hidden: the node's unique_id and extra_pnginfo; nodes of two workflows have the same ids.
    """
    node = (_workflow_of(hidden.extra_pnginfo), hidden.unique_id)
    if not cautions and node not in _CAUTIONED:
        return None
    (_CAUTIONED.add if cautions else _CAUTIONED.discard)(node)
    return shown(draw.sheets.caution_sheet(cautions))


def _workflow_of(told: Any) -> str:
    """What a browser calls the workflow that it runs; empty for other programs and old browsers."""
    workflow = told.get("workflow") if isinstance(told, dict) else None
    return str(workflow.get("id", "")) if isinstance(workflow, dict) else ""


def say(node_id: str | None, text: str) -> None:
    """Show a line of text on a node while it runs. It is an event: nothing repeats it for a cached result."""
    server = getattr(PromptServer, "instance", None)
    if server is None or node_id is None:
        return
    server.send_progress_text(html.escape(text), node_id)  # the browser takes it as HTML; labels are any text
