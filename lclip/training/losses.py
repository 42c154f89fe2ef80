"""The two losses: contrastive (arXiv 2103.00020, figure 3), and distillation from a pixel CLIP."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .ranks import gather_rows, rank

MAX_LOGIT_SCALE = 100.0  # as CLIP and Latent-CLIP were trained


def contrastive_loss(
    images: Tensor, texts: Tensor, log_scale: Tensor, not_negative: Tensor | None = None
) -> Tensor:
    """CLIP's symmetric cross-entropy against the rows of all ranks; the ranks' mean is the whole batch's.

    images, texts: [B, D], each of length 1; row i of one belongs to row i of the other. log_scale: scalar.
    not_negative: [B, rows of all ranks], bool, true where a text also fits another picture; the pair then
    counts as neither. With several ranks it must hold both ways. -> scalar.
    """
    # Logits reach 100: in bfloat16 they would be off by 0.4.
    with torch.autocast(images.device.type, enabled=False):
        images, texts = images.float(), texts.float()
        scale = log_scale.float().clamp(max=math.log(MAX_LOGIT_SCALE)).exp()
        all_images, all_texts = gather_rows(images), gather_rows(texts)
        own = torch.arange(len(images), device=images.device) + rank() * len(images)
        by_image = scale * images @ all_texts.T
        columns = torch.arange(len(all_images), device=images.device)
        others = None if not_negative is None else not_negative & (own[:, None] != columns)
        by_image = _without(by_image, others)
        by_text = by_image.T if all_images is images else _without(scale * texts @ all_images.T, others)
        return (F.cross_entropy(by_image, own) + F.cross_entropy(by_text, own)) / 2


def _without(logits: Tensor, others: Tensor | None) -> Tensor:
    return logits if others is None else logits.masked_fill(others, float("-inf"))


def equal_captions(ids: Tensor) -> Tensor:
    """Which captions say the same: tokens [B, T] -> [B, rows of all ranks], bool."""
    return (ids[:, None] == gather_rows(ids)[None]).all(-1)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of a picture's two embeddings, which is half their squared distance.

    student, teacher: [B, D], each of length 1 -> scalar.
    """
    return 1.0 - (student.float() * teacher.float()).sum(-1).mean()
