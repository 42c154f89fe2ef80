"""What the registry publishes: the files that git tracks, without those that .comfyignore names."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked_files(*options: str) -> list[str]:
    """Paths from the root; skips the test where this is no git checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
    try:
        answer = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"what would be published is only known in a git checkout: {error}")
    return [name for name in answer.stdout.split("\0") if name]


def published_files() -> list[str]:
    """As the registry's own tool chooses them; git itself reads the rules, whose syntax is its own."""
    left_out = tracked_files("--cached", "--ignored", f"--exclude-from={ROOT / '.comfyignore'}")
    return sorted(set(tracked_files()) - set(left_out))


def write_archive(path: Path) -> Path:
    """The published zip: the pack's files at its top level."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in published_files():
            archive.write(ROOT / name, name)
    return path
