"""Of what a run was computed by, and of which lists: versions and hashes that stand beside its figures."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import torch

NAME = "latent-clip"
UNKNOWN = "unknown"


def versions(*packages: str) -> dict[str, str]:
    """Of this library, Python and torch, and of other packages that took part."""
    told = {"lclip": own_version(), "python": platform.python_version(), "torch": torch.__version__}
    return {**told, **{name: _installed(name) for name in packages}}


def own_version() -> str:
    """Of this library: what its checkout says, else what was installed."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    text = project.read_text("utf-8") if project.is_file() else ""
    found = re.search(rf'^name = "{NAME}"\nversion = "([^"]+)"', text, re.MULTILINE)
    return found[1] if found else _installed(NAME)


def list_sha256(entries: Iterable[object]) -> str:
    """The same for the same entries in the same order, of JSON's types."""
    return hashlib.sha256(json.dumps(list(entries)).encode()).hexdigest()[:16]


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return UNKNOWN
