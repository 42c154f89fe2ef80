"""`python -m benchmarks.sibling_spaces`: fit what tells SD1.5's latents from SDXL's, and print it.

Training pictures of every kind, at 256 px, through TAESD of both spaces. The figures of RESULTS.md
(real-guards) are of test pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lclip.latents.siblings import statistics

from .harness import Run
from .real import catalogue
from .real.catalogue import Picture, unit_hash
from .real.crops import pixels
from .real.fetching import cache_folder
from .real.reading import PictureError, read_picture
from .real.taesd import load_taesd

PAIR = ("sdxl", "sd1.5")
PHOTOGRAPHS = OTHERS = 110
SIDE = 256  # pixels
HOLD = 1.0  # how strongly weights are held to zero, in the sum of losses


def main() -> None:
    """Print weights, and each space's means and standard deviations, for lclip/latents/siblings.py."""
    pictures = [p for p in catalogue.load(cache_folder()) if p.split == "train"]
    found: dict[str, list[Tensor]] = {space: [] for space in PAIR}
    models = {space: load_taesd(space) for space in PAIR}
    kinds = ([p for p in pictures if (p.kind == "photograph") == photo] for photo in (True, False))
    picked = [chosen_pictures(those, SIDE, n) for those, n in zip(kinds, (PHOTOGRAPHS, OTHERS), strict=True)]
    with torch.inference_mode():
        for number, picture in enumerate(itertools.chain(*picked)):
            for _, pixel in read_at(cache_folder(), picture, [SIDE]):
                for space, model in models.items():
                    found[space].append(statistics(model.encode(pixel)))
            if number % 20 == 0:
                Run().say(f"{number} pictures")
    for name, values in fitted({space: torch.cat(rows) for space, rows in found.items()}).items():
        print(name, ", ".join(f"{value:.4g}" for value in values.tolist()))


def chosen_pictures(pictures: Iterable[Picture], size: int, number: int) -> list[Picture]:
    """So many pictures, every kind in turn: the rare kinds whole, the common ones in part."""
    by_kind: dict[str, list[Picture]] = {}
    for picture in sorted(pictures, key=lambda p: unit_hash(f"guards {size} {p.id}")):
        # Photographs are never enlarged; drawings are drawn, so they may be.
        if picture.kind != "photograph" or picture.short >= size:
            by_kind.setdefault(_kind(picture), []).append(picture)
    chosen: list[Picture] = []
    while len(chosen) < number and any(by_kind.values()):
        for kind in sorted(by_kind):
            chosen += by_kind[kind][:1]
            del by_kind[kind][:1]
    return chosen[:number]


def _kind(picture: Picture) -> str:
    return picture.kind + (f", {picture.tone}" if picture.tone and picture.kind == "photograph" else "")


def read_at(cache: Path, picture: Picture, sizes: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
    """A picture with its long side at about each size, both sides multiples of 16: [1, 3, H, W]."""
    try:
        image = read_picture(cache / picture.path)
    except PictureError:
        return
    for size in sizes:
        factor = size / max(image.size)
        sides = [max(16 * 16, round(side * factor / 16) * 16) for side in image.size]
        shown = image.resize((sides[0], sides[1]), Image.Resampling.LANCZOS, reducing_gap=3.0)
        yield size, pixels(shown)


def fitted(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Logistic regression of the second space against the first, in the statistics' own units."""
    first, second = values.values()
    everything, labels = torch.cat([first, second]), torch.tensor([0.0] * len(first) + [1.0] * len(second))
    mean, std = everything.mean(0), everything.std(0)
    scaled = (everything - mean) / std
    weights = torch.zeros(scaled.shape[1] + 1, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        odds = scaled @ weights[:-1] + weights[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(odds, labels)
        value = value + HOLD / len(scaled) * weights[:-1].square().sum()
        value.backward()
        return value

    search.step(loss)
    own = weights.detach()[:-1] / std
    told = {"weights": own, "bias": (weights.detach()[-1] - (own * mean).sum())[None]}
    for space, rows in values.items():
        told |= {f"means {space}": rows.mean(0), f"stds {space}": rows.std(0)}
    return told


if __name__ == "__main__":
    main()
