"""What the pack adds to the start of a real ComfyUI: seconds, and modules that nothing else had loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lclip.statistics import bootstrap

from .harness import Run, table
from .hosts import (
    HOST_TESTS,
    PACK,
    ROOT,
    arguments_of,
    checkouts_or_skip,
    environment_of,
    interpreter_of,
    version_of,
)

PATIENCE = 600  # seconds for a start of the host


def imports(run: Run) -> str:
    """Seconds of the pack's import in every host that COMFYUI_PATH names. Raises Skipped for none."""
    rows = []
    for checkout in checkouts_or_skip():
        start_host(checkout)  # compiles the pack
        starts = [start_host(checkout) for _ in range(run.choose(10, 2))]
        processor, wall = ([start[kind] for start in starts] for kind in ("processor", "wall"))
        share = [start["processor"] / start["start_processor"] for start in starts]
        foreign = sorted({name for start in starts for name in foreign_modules(start)})
        rows.append(
            (
                version_of(checkout),
                bootstrap(processor).text(1000, 0, " ms"),
                bootstrap(wall).text(1000, 0, " ms"),
                bootstrap(share).percent(),
                ", ".join(foreign) or "none",
            )
        )
        run.say(f"{rows[-1]}")
    header = ("ComfyUI", "processor time", "wall time", "of the host's start before it", "modules of others")
    return (
        f"The pack's import and the making of its nodes, in {run.choose(10, 2)} starts of the host with "
        "nothing else installed. Processor time does not depend on what else the machine does.\n\n"
        + table(header, rows)
    )


def start_host(checkout: Path, pack: Path = ROOT) -> dict[str, Any]:
    """Start a ComfyUI with the pack, until all is loaded; what the import probe saw of the pack."""
    python = interpreter_of(checkout)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for place, name, target in (
            ("custom_nodes", "import_probe", HOST_TESTS / "import_probe"),
            ("more_nodes", PACK, pack),  # folders are read in turn: the probe is there first
        ):
            (base / place).mkdir()
            (base / place / name).symlink_to(target, target_is_directory=True)
        (base / "extra.yaml").write_text(f"more:\n  base_path: {base}\n  custom_nodes: more_nodes\n")
        (base / "index.html").write_text("<html></html>")
        command = [python, "main.py", *arguments_of()]
        command += ["--quick-test-for-ci", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        command += ["--base-directory", str(base), "--extra-model-paths-config", str(base / "extra.yaml")]
        command += ["--front-end-root", str(base)]
        answer = subprocess.run(
            command,
            cwd=checkout,
            env={**_compiling(environment_of(python)), "IMPORT_PROBE": str(base / "found.json")},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        try:
            seen = json.loads((base / "found.json").read_text())[PACK]
        except (OSError, KeyError):
            seen = {"success": False}
        if not seen["success"]:
            raise RuntimeError(f"{checkout} did not load the pack:\n{answer.stderr[-4000:]}")
        return seen


def _compiling(environment: dict[str, str]) -> dict[str, str]:
    """What a user has: the first start compiles the pack, and the next ones read that."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


def foreign_modules(start: dict[str, Any]) -> list[str]:
    """Modules that the pack was the first to load and that are neither its own nor Python's: top names."""
    tops = {name.split(".")[0] for name in start["modules"] if PACK not in name}
    return sorted(tops - set(sys.stdlib_module_names))
