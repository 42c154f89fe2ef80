"""`python release/host_imports.py`: is every name of `comfy` that nodes/ uses in the ComfyUIs that are here?

It asks comfy-import-guard, offline, of each checkout that COMFYUI_PATH names or, without it, of ~/comfyui*/.
Names and calls are read, nothing is imported or run. Where no checkout is, it says so and is content.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GUARD = "comfy_import_guard"


def checkouts() -> list[Path]:
    """The ComfyUIs here that git knows, which is what the guard reads."""
    named = [Path(part).expanduser() for part in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if part]
    found = named or sorted(Path.home().glob("comfyui*/"))
    return [path.resolve() for path in found if (path / "comfy").is_dir() and (path / ".git").exists()]


def check(checkout: Path, nodes: Path = ROOT / "nodes") -> tuple[bool, str]:
    """Whether a ComfyUI has all that these node files use, and the guard's report."""
    with tempfile.TemporaryDirectory() as folder:
        clones, install = Path(folder) / "clones", Path(folder) / "install"
        (install / "custom_nodes").mkdir(parents=True)
        clones.mkdir()
        (clones / "ComfyUI").symlink_to(checkout, target_is_directory=True)
        (install / "custom_nodes" / "latent-clip").symlink_to(nodes, target_is_directory=True)
        arguments = ["--comfy-dir", str(install), "--cache-dir", str(clones), "--target", "HEAD"]
        options = ["--offline", "--no-update", "--strict", "--quiet"]
        run = "import sys; from comfy_import_guard.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", run, "check", *arguments, *options]
        done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def main() -> int:
    """Check all; 1 where one lacks a name."""
    say = sys.stdout.write
    if importlib.util.find_spec(GUARD) is None:
        say("NO comfy-import-guard HERE: the hosts' names are NOT checked. `make lint` brings it.\n")
        return 0
    if not (found := checkouts()):
        say("NO COMFYUI HERE: the hosts' names are NOT checked. Set COMFYUI_PATH to one or more checkouts.\n")
        return 0
    failed = False
    for checkout in found:
        good, report = check(checkout)
        failed |= not good
        say(f"{checkout.name}: every name of comfy is there\n" if good else f"{checkout.name}:\n{report}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
