"""The host's live previews, switched while it runs: what --preview-method says at its start."""

from __future__ import annotations

import comfy.cli_args
import latent_preview
from aiohttp import web
from server import PromptServer

NODES: dict = {}


@PromptServer.instance.routes.post("/probe/previews")
async def switch(request: web.Request) -> web.Response:
    method = comfy.cli_args.LatentPreviewMethod((await request.json())["method"])
    comfy.cli_args.args.preview_method = method
    if hasattr(latent_preview, "default_preview_method"):  # newer hosts go back to it at every prompt
        latent_preview.default_preview_method = method
    return web.json_response({})
