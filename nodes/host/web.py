"""The web half of `host`: the pack's help pages, in a folder whose name the host does not serve."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from aiohttp import web
from server import PromptServer


def serve_file(address: str, file: Path) -> None:
    """Serve one file, which lies elsewhere than the browser's scripts, at an address of its own."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    async def page(request: web.Request) -> web.FileResponse:
        return web.FileResponse(file, headers={"Cache-Control": "no-cache"})

    server.routes.get(address)(page)


def serve_pages(pack: Path, pages: str) -> None:
    """Serve /extensions/<folder name>/... where the name has spaces or the like.

    The host announces such a folder and asks aiohttp for it, whose static routes do not match a name that a
    URL has to quote. Nothing is added for other names.
    """
    server = getattr(PromptServer, "instance", None)
    if server is None or quote(pack.name) == pack.name:
        return
    root = (pack / pages).resolve()

    async def page(request: web.Request) -> web.FileResponse:
        path = (root / request.match_info["path"]).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    server.routes.get(f"/extensions/{{pack:{re.escape(pack.name)}}}/{{path:.+}}")(page)
