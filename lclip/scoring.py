"""What one asks of a Latent-CLIP: how well texts fit, which label fits best, and where.

Every function takes raw, clean latents [B, C, H, W] of any size, or one frame each [B, C, 1, H, W], treats
each batch item by itself and the batch as a whole, and is differentiable in the latents. The answer for an
item that is not finite is NaN; a batch without any other is refused.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from .latents.checks import check_latents
from .latents.items import check_k

if TYPE_CHECKING:
    from .latents.size_rules import SizeRule
    from .model.latent_clip import LatentCLIP

logger = logging.getLogger("latent-clip")


def similarity(
    model: LatentCLIP, z: Tensor, texts: str | Sequence[str], size_rule: str | SizeRule | None = None
) -> Tensor:
    """Cosine of each item with each text. -> [B, T], between -1 and 1. Raises ValueError."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    _refuse_empty(texts)
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
    Raises ValueError, also for fewer than two labels that differ: one alone would be certain of anything.
    Labels that are one to the model share what that would get; a warning names them.
    """
    check_latents(z, model.config)
    for doubt in label_doubts(model, labels, templates):
        logger.warning("%s", doubt)
    cosine = model.encode_latents(z, size_rule) @ choice_embeddings(model, labels, templates).T
    return (model.logit_scale * cosine).softmax(dim=-1)


def label_embeddings(model: LatentCLIP, labels: Sequence[str], templates: Sequence[str] = ("{}",)) -> Tensor:
    """Mean over the templates of each label's normalised embeddings, normalised again. -> [L, D]

    A host's memory has them label by label: sentences are many times as many.
    """
    sentences = _sentences(labels, templates)

    def encode() -> Tensor:
        embeddings = model.encode_text([text for row in sentences for text in row])
        return F.normalize(embeddings.unflatten(0, (len(sentences), -1)).mean(1), dim=-1)

    kind = ("mean over", *_list_of("templates", templates))
    return model.remembered(kind, _list_of("labels", labels), encode)


def choice_embeddings(model: LatentCLIP, labels: Sequence[str], templates: Sequence[str] = ("{}",)) -> Tensor:
    """`label_embeddings` of labels to choose from: ValueError unless two of them differ to the model, and for
    one that says nothing: what is least like the others would be taken for it.

    Its tokenizer folds case and space, may not know a word, and cuts what is too long: labels that come to
    the same tokens in every template are one.
    """
    sentences = _sentences(labels, templates)
    names = _list_of("labels", labels)
    if not all(name.strip() for name in names):
        raise ValueError(
            f"one of the labels {names} is empty; expected words for each, such as 'something else'."
        )
    if _tells_apart(model, sentences):
        return label_embeddings(model, labels, templates)
    if len(names) == 1:
        got = f"there is one label, {names[0]!r}"
    else:
        shown = ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")
        got = f"the labels {shown} are one and the same to this model"
    raise ValueError(
        f"{got}; expected at least two that differ, or each would be certain. Add what else the picture "
        "could show, such as 'something else'."
    )


def require_distinct(model: LatentCLIP, concepts: Sequence[str], templates: Sequence[str] = ("{}",)) -> None:
    """ValueError where two of the concepts are one to the model: neither could ever win against the other.

    `classify` is content with two labels that differ; who counts what wins is not.
    """
    for first, second in _pairs_alike(model, concepts, templates):
        raise ValueError(
            f"the concepts {first!r} and {second!r} are one and the same to this model; expected "
            "concepts that all differ, or neither of the two ever wins. Leave one out, or say what "
            "differs in words that the model knows."
        )


def label_doubts(model: LatentCLIP, labels: Sequence[str], templates: Sequence[str] = ("{}",)) -> list[str]:
    """Which labels are one to the model, in words: none of them gets what it would get alone.

    By the first template: what is one in it is one in the others, and a thousand labels are read at once.
    """
    return [
        f"the labels {first!r} and {second!r} are one and the same to this model: each gets a part of what "
        "one alone would get. Leave one out."
        for first, second in _pairs_alike(model, labels, _list_of("templates", templates)[:1])
    ]


def _pairs_alike(
    model: LatentCLIP, names: str | Sequence[str], templates: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Each name that comes to the tokens of an earlier one, with that one."""
    seen: dict[tuple[int, ...], str] = {}
    for name, sentences in zip(_list_of("labels", names), _sentences(names, templates), strict=True):
        tokens = tuple(model.tokenizer.encode(sentences).flatten().tolist())
        if tokens in seen:
            yield seen[tokens], name
        seen.setdefault(tokens, name)


def _tells_apart(model: LatentCLIP, sentences: list[list[str]]) -> bool:
    """Whether any label comes to other tokens than the first: mostly the second does."""
    read = (model.tokenizer.encode(row).tolist() for row in sentences)
    first = next(read)
    return any(other != first for other in read)


def _sentences(labels: str | Sequence[str], templates: str | Sequence[str]) -> list[list[str]]:
    """Every label in every template: a row per label. ValueError where there are none, or no {}."""
    labels, templates = _list_of("labels", labels), _list_of("templates", templates)
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no {{}}; expected it where the label goes")
    return [filled([label], templates) for label in labels]


def filled(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every label in every template, label by label.

    Not by str.format: braces in a label or template are text, as typed.
    """
    return [template.replace("{}", label) for label in labels for template in templates]


def heatmap(
    model: LatentCLIP,
    z: Tensor,
    text: str,
    against: Sequence[str] = (),
    method: str = "contributions",
    size_rule: str | None = None,
) -> Tensor:
    """Where the text is, on the latents' own grid. -> [B, H, W]

    The value of a place is what it adds to the item's cosine with the text (arXiv 2310.05916); for the other
    method see LatentCLIP.patch_embeddings. against: texts that stand for anything ("a picture", "an object");
    their mean is subtracted, which sharpens the map. size_rule: by name; a place that several views hold has
    the mean of theirs. Values compare between places of one picture, less so between pictures.
    """
    if not isinstance(text, str):
        raise ValueError(f"text is a {type(text).__name__}; expected one string")
    _refuse_empty([text])
    check_latents(z, model.config)
    direction = model.encode_text(text)[0]
    if against:
        direction = direction - model.encode_text(against).mean(0)
    heat = model.patch_embeddings(z, method, size_rule) @ direction  # [B, h, w], one value per patch
    if heat.shape[-2:] == z.shape[-2:]:
        return heat
    return F.interpolate(heat[:, None], z.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def top_k(scores: Tensor, k: int) -> tuple[list[int], list[int]]:
    """Indices of the k best items, best first, and of the others in their order; ties keep their order.

    scores: [B], one number per item, higher is better; NaN comes last, and what only rounding tells apart is
    a tie. k: more than there are keeps all, with a warning. Raises ValueError for a k that is no whole number
    from 1 on, no scores, or none that is a number.
    """
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"scores have shape {list(scores.shape)}; expected one number per item, [B]")
    k = check_k(k, len(scores))
    values = as_ranked(scores).tolist()
    if all(map(math.isnan, values)):
        raise ValueError(
            f"all {len(scores)} scores are NaN; expected a number for at least one item. Check the latents "
            "and the reward."
        )
    if (text := too_many(k, len(scores))) is not None:
        logger.warning("%s", text)
    order = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), -values[i]))
    return order[:k], sorted(order[k:])


def too_many(k: int, count: int) -> str | None:
    """What to say where more items are asked for than there are, or None."""
    return f"k is {k}, and there are {count} items: all of them are kept" if k > count else None


ALIKE = 1e-5
"""Scores that differ by less, relative to the largest, are the same but for rounding."""


def all_alike(scores: Tensor) -> bool:
    """Whether scores choose nothing: two or more are numbers, and those are all the same but for rounding."""
    known = scores[scores.isfinite()]
    return len(known) > 1 and bool(known.max() - known.min() <= ALIKE * known.abs().max())


def as_ranked(scores: Tensor) -> Tensor:
    """Scores as ranks see them: where they choose nothing, rounding does not choose either."""
    return scores.masked_fill(scores.isfinite(), 0) if all_alike(scores) else scores


def _refuse_empty(texts: Sequence[str]) -> None:
    """ValueError for a text that says nothing: its cosine is a number all the same, and means nothing."""
    if not all(text.strip() for text in texts):
        raise ValueError(f"one of the texts {list(texts)} is empty; expected words, such as 'a red fox'.")


def _list_of(what: str, texts: str | Sequence[str]) -> list[str]:
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError(f"no {what} were given; expected at least one")
    return texts
