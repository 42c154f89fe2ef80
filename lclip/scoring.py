"""What one asks of a Latent-CLIP: how well texts fit, which label fits best, and where.

Every function takes raw, clean latents [B, C, H, W] of any size, treats each batch item by itself and the
batch as a whole, and is differentiable in the latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .latents.checks import check_latents
from .latents.size_rules import SizeRule
from .model.latent_clip import LatentCLIP


def similarity(
    model: LatentCLIP, z: Tensor, texts: str | Sequence[str], size_rule: str | SizeRule | None = None
) -> Tensor:
    """Cosine of each item with each text. -> [B, T], between -1 and 1. Raises ValueError."""
    check_latents(z, model.config)
    return model.encode_latents(z, size_rule) @ model.encode_text(texts).T


def classify(
    model: LatentCLIP,
    z: Tensor,
    labels: Sequence[str],
    templates: Sequence[str] = ("{}",),
    size_rule: str | SizeRule | None = None,
) -> Tensor:
    """Zero-shot probabilities: softmax over the labels at the model's logit scale (arXiv 2103.00020, 3.1).

    templates: sentences with {} where the label goes; a label's embedding is the mean over them. -> [B, L].
    """
    check_latents(z, model.config)
    cosine = model.encode_latents(z, size_rule) @ label_embeddings(model, labels, templates).T
    return (model.logit_scale * cosine).softmax(dim=-1)


def label_embeddings(model: LatentCLIP, labels: Sequence[str], templates: Sequence[str] = ("{}",)) -> Tensor:
    """Mean over the templates of each label's normalised embeddings, normalised again. -> [L, D]"""
    labels, templates = _list_of("labels", labels), _list_of("templates", templates)
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no {{}}; expected it where the label goes")
    # Not str.format: braces in a label or template are text, as typed.
    sentences = [template.replace("{}", label) for label in labels for template in templates]
    embeddings = model.encode_text(sentences).unflatten(0, (len(labels), len(templates)))
    return F.normalize(embeddings.mean(1), dim=-1)


def heatmap(
    model: LatentCLIP, z: Tensor, text: str, against: Sequence[str] = (), method: str = "contributions"
) -> Tensor:
    """Where the text is, on the latents' own grid. -> [B, H, W]

    The value of a place is what it adds to the item's cosine with the text (arXiv 2310.05916); for the other
    method see LatentCLIP.patch_embeddings. against: texts that stand for anything ("a picture", "an object");
    their mean is subtracted, which sharpens the map. Values compare between places of one picture, less so
    between pictures.
    """
    if not isinstance(text, str):
        raise ValueError(f"text is a {type(text).__name__}; expected one string")
    check_latents(z, model.config)
    direction = model.encode_text(text)[0]
    if against:
        direction = direction - model.encode_text(against).mean(0)
    heat = model.patch_embeddings(z, method) @ direction  # [B, h, w], one value per patch
    if heat.shape[-2:] == z.shape[-2:]:
        return heat
    return F.interpolate(heat[:, None], z.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def top_k(scores: Tensor, k: int) -> tuple[list[int], list[int]]:
    """Indices of the k best items, best first, and of the others in their order; ties keep their order.

    scores: [B], one number per item, higher is better. Raises ValueError for a k outside 1..B or a NaN.
    """
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"scores have shape {list(scores.shape)}; expected one number per item, [B]")
    if not 1 <= k <= len(scores):
        raise ValueError(f"k is {k}; expected 1 to {len(scores)}, the number of items")
    if bool(torch.isnan(scores).any()):
        raise ValueError(
            "a score is NaN; expected a number for every item. Check the latents and the reward."
        )
    best = torch.sort(scores, descending=True, stable=True).indices[:k].tolist()
    return best, [i for i in range(len(scores)) if i not in best]


def _list_of(what: str, texts: str | Sequence[str]) -> list[str]:
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError(f"no {what} were given; expected at least one")
    return texts
