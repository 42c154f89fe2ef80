"""How good a Latent-CLIP is while it is trained: by class names, by captions, by its teacher."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..data.reader import read_samples
from ..data.samples import Sample, Unusable
from ..data.shards import Shard
from ..data.tally import Tally
from ..data.texts import read_text
from ..model.latent_clip import LatentCLIP
from ..scoring import choice_embeddings
from .data import Decode
from .objectives import TEACHER_PICTURE, LatentSource, pixels_of
from .pixel_clips import PixelCLIP

TEMPLATES = ("a photo of a {}.",)
CHUNK = 64  # samples per pass of a model


@dataclass(frozen=True)
class Evaluation:
    """Held-out samples and what is asked of a model on them.

    latents: [N, C, H, W]. ids: [N, L], captions to be retrieved. labels: [N], to be classified by the names
    of the classes. targets: [N, D], a teacher's embeddings to be met.
    """

    latents: Tensor
    device: torch.device
    ids: Tensor | None = None
    labels: Tensor | None = None
    names: tuple[str, ...] = ()
    templates: tuple[str, ...] = TEMPLATES
    targets: Tensor | None = None

    @torch.no_grad()
    def __call__(self, model: LatentCLIP) -> dict[str, float]:
        """Figures by name; the model is left in the mode it was in."""
        training = model.training
        model.eval()
        images = torch.cat([model.encode_latents(part) for part in self._parts(self.latents)])
        figures: dict[str, float] = {}
        if self.ids is not None:
            texts = torch.cat([model.encode_tokens(part) for part in self._parts(self.ids)])
            figures |= retrieval(images, texts)
        if self.labels is not None:
            classes = choice_embeddings(model, self.names, self.templates)
            labels = self.labels.to(self.device)
            figures |= {f"top{k}": share_found(images, classes, labels, k) for k in (1, 5)}
        if self.targets is not None:
            figures["teacher_cosine"] = float((images * self.targets.to(self.device)).sum(-1).mean())
        model.train(training)
        return figures

    def _parts(self, items: Tensor) -> list[Tensor]:
        return [part.to(self.device) for part in items.split(CHUNK)]


@torch.no_grad()
def evaluation_of(
    items: Sequence[dict[str, Tensor]],
    latents: LatentSource,
    names: tuple[str, ...] = (),
    templates: tuple[str, ...] = TEMPLATES,
    teacher: PixelCLIP | None = None,
) -> Evaluation:
    """Decoded samples as an evaluation; pictures go through the VAE, and to the teacher, once."""
    found: dict[str, list[Tensor]] = {"latents": [], "targets": [], "ids": [], "labels": []}
    for first in range(0, len(items), CHUNK):
        batch = default_collate(list(items[first : first + CHUNK]))
        found["latents"].append(latents(batch).cpu())
        if teacher is not None:
            found["targets"].append(teacher.embed(pixels_of(batch[TEACHER_PICTURE], latents.device)).cpu())
        for kind, entry in (("ids", "ids"), ("labels", "label")):
            if entry in batch:
                found[kind].append(batch[entry])
    tensors = {name: torch.cat(parts) for name, parts in found.items() if parts}
    return Evaluation(device=latents.device, names=names, templates=templates, **tensors)


def draw_samples(
    shards: Sequence[Shard], decode: Decode, number: int, seed: int = 0
) -> list[dict[str, Tensor]]:
    """So many usable samples at random, or all there are: one pass over the data (Vitter 1985, algorithm R).

    Raises ValueError where there is none.
    """
    order, drawn, tally = random.Random(seed), [], Tally()
    for seen, raw in enumerate(raw for shard in shards for raw in read_samples(shard, tally)):
        if len(drawn) < number:
            drawn.append(raw)
        elif (place := order.randrange(seen + 1)) < number:
            drawn[place] = raw
    items = [item for raw in drawn if (item := _decoded(raw, decode, tally)) is not None]
    if not items:
        raise ValueError(
            f"the evaluation data has no usable sample; expected at least one. Skipped: {tally.text()}"
        )
    return items


def _decoded(raw: Sample, decode: Decode, tally: Tally) -> dict[str, Tensor] | None:
    try:
        return decode(raw)
    except Unusable as error:
        tally.skip(error.reason, raw.key, error.detail)
        return None


def retrieval(images: Tensor, texts: Tensor) -> dict[str, float]:
    """Share of the pictures that find their own caption among all, first or among five, and the reverse."""
    own = torch.arange(len(images), device=images.device)
    return {
        f"{name}_r{k}": share_found(queries, gallery, own, k)
        for name, queries, gallery in (("image", images, texts), ("text", texts, images))
        for k in (1, 5)
    }


def share_found(queries: Tensor, gallery: Tensor, own: Tensor, k: int) -> float:
    """Share of the queries [N, D] whose own row of the gallery [M, D] is among the k nearest. own: [N]."""
    cosine = queries @ gallery.T
    of_own = cosine.gather(1, own[:, None])
    # Ties count against: a model that maps all to one point has found nothing.
    return float(((cosine >= of_own).sum(1) <= k).float().mean())


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a text file that are not empty. Raises FileNotFoundError, ValueError for none."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    lines = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not lines:
        raise ValueError(f"{path} is empty; expected one entry a line")
    return lines


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes, one a line: as the data labels them, and as texts. A tab parts the two where they differ."""
    rows = [line.split("\t", 1) for line in read_lines(path)]
    if len({row[-1].strip() for row in rows}) < 2:
        raise ValueError(f"{path} names {len(rows)} classes; expected at least two that differ, one a line")
    return tuple(row[0].strip() for row in rows), tuple(row[-1].strip() for row in rows)
