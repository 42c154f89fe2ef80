"""`python -m benchmarks.sibling_spaces`: fit what tells SD1.5's latents from SDXL's, and print it.

Training pictures of every kind, at 256 px, through TAESD of both spaces. The figures of RESULTS.md
(real-guards) are of test pictures.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from lclip.latents.siblings import statistics

from .harness import Run
from .real import catalogue
from .real.fetching import cache_folder
from .real.taesd import load_taesd
from .real_guards import chosen_pictures, read_at

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
