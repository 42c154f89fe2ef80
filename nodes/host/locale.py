"""The language of who runs a workflow: each browser says its own, a program that runs one gets English."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from server import PromptServer

from ..draw import words

ADDRESS = "/latent-clip/locale"
LANGUAGES = ("en", "zh")
MOST = 1000  # browsers that are remembered

_SPOKEN: dict[str, str] = {}
"""Language by the browser's id, as it runs workflows under."""


def language() -> str:
    """That of the browser whose workflow runs."""
    server = getattr(PromptServer, "instance", None)
    return _SPOKEN.get(getattr(server, "client_id", None) or "", words.ENGLISH)


def remember(told: Any) -> bool:
    """What a browser said of itself: {"client": its id, "language": ...}. -> whether that is understood"""
    client, spoken = (told.get(name) if isinstance(told, dict) else None for name in ("client", "language"))
    if not isinstance(client, str) or not isinstance(spoken, str) or spoken not in LANGUAGES:
        return False
    _SPOKEN.pop(client, None)
    _SPOKEN[client] = spoken
    while len(_SPOKEN) > MOST:
        del _SPOKEN[next(iter(_SPOKEN))]
    return True


def listen() -> None:
    """Hear what browsers say, and have words in that language."""
    words.speak(language)
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    async def hear(request: web.Request) -> web.Response:
        try:
            told = await request.json()
        except ValueError:
            told = None
        return web.Response(status=204 if remember(told) else 400)

    server.routes.post(ADDRESS)(hear)
