"""What the registry publishes, for tests: by the command that builds it."""

from __future__ import annotations

import importlib.util
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@cache
def builder():
    """The module release/archive.py; skips the test where this is no git checkout."""
    spec = importlib.util.spec_from_file_location("release_archive", ROOT / "release" / "archive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.published_files()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"what would be published is only known in a git checkout: {error}")
    return module


def published_files() -> list[str]:
    return builder().published_files()


def write_archive(path: Path) -> Path:
    return builder().write_archive(path)


def tracked_files(*options: str) -> list[str]:
    return builder().tracked_files(*options)
