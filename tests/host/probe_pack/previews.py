"""The host's live previews, switched while it runs: what --preview-method says at its start."""

from __future__ import annotations

import importlib
import sys

import comfy.cli_args
import latent_preview
import torch
from aiohttp import web
from server import PromptServer

import nodes

from .anything import ANY


class Shown:
    """What the pack writes of a picture with that many channels, for a node to show."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"channels": ("INT",)}}

    def run(self, channels):
        pack = sys.modules[nodes.NODE_CLASS_MAPPINGS["LatentCLIP_Score"].__module__].__package__
        feedback = importlib.import_module(f"{pack}.host.feedback")
        return ([feedback.shown(torch.rand(1, 8, 16, channels)) for _ in range(2)],)


NODES = {"Probe_Shown": Shown}


@PromptServer.instance.routes.post("/probe/previews")
async def switch(request: web.Request) -> web.Response:
    method = comfy.cli_args.LatentPreviewMethod((await request.json())["method"])
    comfy.cli_args.args.preview_method = method
    if hasattr(latent_preview, "default_preview_method"):  # newer hosts go back to it at every prompt
        latent_preview.default_preview_method = method
    return web.json_response({})
