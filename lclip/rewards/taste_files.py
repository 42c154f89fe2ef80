"""Reading and writing tastes, and reading published aesthetic heads: linear heads on an embedding.

LAION's predictors come as a single linear layer (`weight`, `bias`) or as five that follow each other without
an activation (`layers.0, 2, 4, 6, 7`), which is one linear map too. Both rate from 1 to 10.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.checkpoint import normalise_keys, read_weights
from ..checkpoints.formats import Format
from ..checkpoints.tensors import check_target, write_tensors
from ..checkpoints.weights import check_tensors
from ..errors import CheckpointError
from .taste import Taste, TasteFigures

FORMAT = Format("latent-clip-taste", "taste")
RATING_SCALE = 0.1
"""A point of an aesthetic rating counts as 0.1 of cosine does in a Text Reward at logit scale 100."""
LAYERS = (0, 2, 4, 6, 7)  # of the deep head; dropout stood between them
MAX_WIDTH = 1 << 16  # of a head's layer; the published ones have at most 1024


def save_taste(taste: Taste, path: str | os.PathLike[str]) -> Path:
    """Write a taste as a .safetensors of a few kB, as one atomic step. Returns the path.

    Raises ValueError for another ending, FileNotFoundError for a folder that is not there.
    """
    path = check_target(Path(path))
    about = {
        "name": taste.name,
        "bias": taste.bias,
        "figures": None if taste.figures is None else asdict(taste.figures),
        "notes": list(taste.notes),
    }
    metadata = {
        **FORMAT.head(),
        "model": taste.model or "",
        "model_name": taste.model_name,
        "latent_space": taste.latent_space or "",
        "inputs": taste.trained_from or "",
        "size_rule": taste.size_rule or "",
        "about": json.dumps(about),
    }
    return write_tensors(path, {"direction": taste.direction.float()}, metadata)


def load_taste(path: str | os.PathLike[str]) -> Taste:
    """Read a taste, or an aesthetic head in LAION's form (.safetensors or .pth). Nothing in it is run.

    A head of another form than ours does not say which model it is for: only its width is checked, later.
    Raises FileNotFoundError, CheckpointError.
    """
    path = Path(path)
    weights, metadata = read_weights(path)
    try:
        check_tensors(weights, path)
        if metadata.get("format") == FORMAT.name:
            taste = _own(weights, metadata)
        else:
            _refuse_models(weights, metadata)
            taste = _published(weights, path.stem)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not bool(torch.isfinite(taste.direction).all()) or not math.isfinite(taste.bias):
        raise CheckpointError(f"{path}: it holds NaN or infinite values")
    return taste


def _own(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Taste:
    FORMAT.check(metadata)
    if set(weights) != {"direction"} or weights["direction"].ndim != 1:
        shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
        raise ValueError(f"it holds {shapes}; expected one row of numbers, 'direction'")
    about = _about(metadata)
    return Taste(
        direction=weights["direction"]
        .float()
        .clone(),  # aligned as when it was trained: sums agree to the bit
        bias=about["bias"],
        name=about["name"],
        model=metadata.get("model") or None,
        model_name=metadata.get("model_name", ""),
        latent_space=metadata.get("latent_space") or None,
        figures=None if about["figures"] is None else _figures(about["figures"]),
        notes=tuple(map(str, about["notes"])),
        trained_from=metadata.get("inputs") or None,
        size_rule=metadata.get("size_rule") or None,
    )


def _about(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        about = json.loads(metadata.get("about", ""))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata entry 'about' is missing or no JSON: {error}") from error
    wanted: dict[str, Any] = {"name": str, "bias": float, "figures": (dict, type(None)), "notes": list}
    if not isinstance(about, dict) or not all(
        isinstance(about.get(name), kind) for name, kind in wanted.items()
    ):
        raise ValueError(f"its metadata entry 'about' is damaged; expected {', '.join(wanted)}")
    return about


def _figures(content: Mapping[str, Any]) -> TasteFigures:
    names = [field.name for field in fields(TasteFigures)]
    values = [content.get(name) for name in names]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if set(content) != set(names) or not numbers:
        raise ValueError(f"its figures are {dict(content)!r:.200}; expected numbers for {', '.join(names)}")
    found = TasteFigures(**content)
    if not (0 <= found.liked_right <= found.liked and 0 <= found.disliked_right <= found.disliked):
        raise ValueError(f"its figures contradict each other: {dict(content)!r:.200}")
    if min(found.liked, found.disliked) < 2 or not 0 < found.shrinkage <= 1:
        raise ValueError(f"its figures cannot be: {dict(content)!r:.200}")
    return found


def _refuse_models(weights: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    kind = metadata.get("format", "")
    if kind == "latent-clip" or "visual.conv1.weight" in normalise_keys(weights):
        raise ValueError(
            "a whole Latent-CLIP; expected a head. A fine-tuned model, such as one trained on preferences, "
            "is loaded as a Latent-CLIP and asked by a Text Reward"
        )
    if kind.startswith("latent-clip"):
        raise ValueError(f"a {kind} file; expected a taste or an aesthetic head")


def _published(weights: Mapping[str, Tensor], name: str) -> Taste:
    """One linear map of however many layers: W_n (... (W_1 e + b_1) ...) + b_n."""
    layers = _linear_layers(weights)
    direction, bias = layers[-1][0].cpu().double(), layers[-1][1].cpu().double()  # [1, width], [1]
    for weight, offset in reversed(layers[:-1]):
        bias = bias + direction @ offset.cpu().double()
        direction = direction @ weight.cpu().double()
    return Taste((RATING_SCALE * direction[0]).float(), float(RATING_SCALE * bias), name)


def _linear_layers(weights: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    prefixes = sorted({key.rpartition(".")[0] for key in weights})
    deep = [f"layers.{index}" for index in LAYERS]
    if prefixes != deep and (len(prefixes) != 1 or set(weights) != set(_keys(prefixes[0]))):
        raise ValueError(
            f"no aesthetic head: it holds {', '.join(map(repr, sorted(weights)[:4])) or 'nothing'}; expected "
            f"'weight' and 'bias', or these of {', '.join(deep)}. With other layers, where the activations "
            "stand cannot be told from the weights."
        )
    if set(weights) != {key for prefix in prefixes for key in _keys(prefix)}:
        raise ValueError(f"incomplete: it holds {', '.join(sorted(weights))}; expected weights with biases")
    layers = [(weights[key], weights[bias]) for key, bias in map(_keys, prefixes)]
    inputs = None
    for weight, bias in layers:
        fits = weight.ndim == 2 and list(bias.shape) == [len(weight)] and max(weight.shape) <= MAX_WIDTH
        if not fits or (inputs is not None and weight.shape[1] != inputs):
            raise ValueError(f"its layers do not fit: {list(weight.shape)} with bias {list(bias.shape)}")
        inputs = len(weight)
    if inputs != 1:
        raise ValueError(f"it gives {inputs} numbers per picture; expected one rating")
    return layers


def _keys(prefix: str) -> tuple[str, str]:
    dot = f"{prefix}." if prefix else ""
    return f"{dot}weight", f"{dot}bias"
