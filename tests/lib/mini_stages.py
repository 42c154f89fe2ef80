"""Stages of the mini world's training, at a size of seconds."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from lclip.mini import train


def made_by(stage: str, folder: Path, seed_before: int) -> dict[str, torch.Tensor]:
    """The weights of two steps from the start; torch's random numbers are elsewhere each time."""
    torch.manual_seed(seed_before)
    train.STAGES[stage].make(folder / f"work{seed_before}", folder, 2)
    return load_file(folder / f"{stage}.safetensors")
