"""The figures of a run: one CSV, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import logging
from pathlib import Path
from typing import Any

from ..checkpoints.atomic import atomic_file

logger = logging.getLogger("latent-clip")

KEYS = ("stage", "step")


class Metrics:
    """Rows of figures by stage and step, as `metrics.csv` in a folder; columns are added as they come.

    A run that goes on from a checkpoint writes some steps again: rows from the first such step on are
    replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.csv"
        self.rows = _read(self.path)
        self._fresh: set[int] = set()  # stages that this process has written to
        self._board = _board(folder)

    def write(self, stage: int, step: int, figures: dict[str, float]) -> None:
        """Add figures of a step, or to those that it has already."""
        if stage not in self._fresh:
            self._fresh.add(stage)
            self.rows = [row for row in self.rows if (int(row["stage"]), int(row["step"])) < (stage, step)]
        values = {name: f"{value:.6g}" for name, value in figures.items()}
        last = self.rows[-1] if self.rows else {}
        if (last.get("stage"), last.get("step")) == (str(stage), str(step)):
            last.update(values)
        else:
            self.rows.append({"stage": str(stage), "step": str(step), **values})
        self._save()
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(f"stage_{stage}/{name}", value, step)
            self._board.flush()

    def _save(self) -> None:
        names = dict.fromkeys(name for row in self.rows for name in row)
        with atomic_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*KEYS, *(name for name in names if name not in KEYS)])
            writer.writeheader()
            writer.writerows(self.rows)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def _board(folder: Path) -> Any:
    """TensorBoard's writer; None where it is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception as error:  # an installation that does not fit torch or numpy
        logger.warning("TensorBoard is installed but cannot be used: %s", error)
        return None
    return SummaryWriter(str(folder / "tensorboard"))
