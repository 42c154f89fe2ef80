"""CLIP_benchmark's contract for models (LAION-AI/CLIP_benchmark): (model, transform, tokenizer)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import load
from ..checkpoints.hub import RELEASED, pretrained
from ..model.latent_clip import LatentCLIP
from .pictures import PictureToLatents


class BenchmarkCLIP(nn.Module):
    """A Latent-CLIP behind the names that benchmarks of CLIPs call; "images" are its latents."""

    def __init__(self, model: LatentCLIP) -> None:
        super().__init__()
        self.model = model
        self.logit_scale = nn.Parameter(model.log_logit_scale.detach().clone(), requires_grad=False)

    def encode_image(self, images: Tensor) -> Tensor:
        """Raw latents [B, C, H, W] -> [B, D]."""
        return self.model.encode_latents(images)

    def encode_text(self, text: Tensor) -> Tensor:
        """Token ids [T, L] -> [T, D]."""
        return self.model.encode_tokens(text)


def clip_benchmark(
    model_name: str | os.PathLike[str],
    pretrained: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[BenchmarkCLIP, PictureToLatents, Any]:
    """What CLIP_benchmark's loaders return, and take: model, transform, tokenizer.

    model_name: a file or folder of a Latent-CLIP, or the name of a released one that is in the hub's cache,
    in cache_dir (see `lclip.pretrained`). pretrained: the VAE of its latents: a diffusers folder, a single
    file, TAESD, or a name. The transform turns a picture (PIL) into raw latents [C, h, w] of the model's own
    size on the CPU, seeded, so that a data loader can stack them. The tokenizer turns texts into ids [T, L].
    In CLIP_benchmark: TYPE2FUNC["latent_clip"] = lclip.clip_benchmark.
    Raises FileNotFoundError, CheckpointError, and ValueError for a VAE of another space.
    """
    model = _model(model_name, cache_dir, device)
    transform = PictureToLatents.for_model(os.fspath(pretrained), model.config)
    return BenchmarkCLIP(model).eval(), transform, partial(_ids, model)


def _model(name: str | os.PathLike[str], cache_dir: Any, device: torch.device | str) -> LatentCLIP:
    if os.fspath(name) in RELEASED and not Path(name).exists():
        return pretrained(os.fspath(name), device=device, cache_dir=cache_dir)
    return load(name, device)


def _ids(model: LatentCLIP, texts: str | Sequence[str]) -> Tensor:
    return model.tokenizer.encode([texts] if isinstance(texts, str) else list(texts))
