"""What a stopped run need not do again: finished parts of long sections, kept on disk until the section is
written."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lclip.checkpoints.atomic import atomic_file
from lclip.mini.world import WEIGHTS
from lclip.safety.presets import FOLDER

WORK = Path(__file__).parents[1] / "build" / "benchmarks"

Arrays = Mapping[str, np.ndarray]


@dataclass
class Parts:
    """Finished parts of one section. They count for the same weights and the same code only."""

    section: str
    root: Path = WORK
    reused: int = 0
    """How many parts came from an earlier run."""

    @cached_property
    def folder(self) -> Path:
        return self.root / f"{self.section}-{_digest()[:16]}"

    def of(self, name: str, job: Callable[[], Arrays]) -> dict[str, np.ndarray]:
        """What a job gives, from the disk where an earlier run has done it."""
        path = self.folder / f"{name}.npz"
        self.reused += path.exists()
        if not path.exists():
            found = job()
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **found)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    def forget(self) -> None:
        """Once the section is written; and what other code or weights have left of it."""
        for folder in self.root.glob(f"{self.section}-{'?' * 16}"):
            shutil.rmtree(folder, ignore_errors=True)


def _digest() -> str:
    """SHA-256 of the mini world's weights, the policies, and the code in use: 64 hex digits."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in ("lclip", __package__)]
    code = [Path(path) for module in modules if (path := getattr(module, "__file__", None))]
    total = hashlib.sha256()
    for path in sorted({*code, *WEIGHTS.glob("*.safetensors"), *FOLDER.glob("*.json")}):
        total.update(path.name.encode())
        total.update(path.read_bytes())
    return total.hexdigest()
