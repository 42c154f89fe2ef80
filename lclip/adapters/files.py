"""Reading and writing latent adapters: one .safetensors with its weights, both spaces, and its figures."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..checkpoints.formats import Format
from ..checkpoints.tensors import all_finite, check_target, read_tensors, write_tensors
from ..errors import CheckpointError
from ..latents.spaces import LatentSpace
from .adapter import Adapter, AdapterFigures, AdapterShape, LatentAdapter
from .interposer import FIRST_WEIGHT, interposer_of

FORMAT = Format("latent-clip-adapter", "latent adapter")

T = TypeVar("T")


def save_adapter(
    adapter: LatentAdapter, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32
) -> Path:
    """Write an adapter as .safetensors, as one atomic step; dtype: of the stored weights. Returns the path.

    Raises ValueError for another ending or weights that are not finite, FileNotFoundError for a folder that
    is not there.
    """
    path = check_target(Path(path))
    weights = {name: tensor.to(dtype) for name, tensor in adapter.state_dict().items()}
    if not all(map(all_finite, weights.values())):
        raise ValueError("the adapter holds NaN or infinite weights; its training went astray. Train again.")
    metadata = {
        **FORMAT.head(),
        "shape": json.dumps(_plain_shape(adapter.shape)),
        "source_space": adapter.source.name,
        "target_space": adapter.target.name,
        "figures": json.dumps(asdict(adapter.figures) if adapter.figures else None),
        "model": adapter.trained_with or "",
        "inputs": adapter.trained_from or "",
        "sha256": weights_hash(weights),
    }
    return write_tensors(path, weights, metadata)


def _plain_shape(shape: AdapterShape) -> dict[str, Any]:
    """The shape as it is stored: what each channel's mean is, the spaces' names say."""
    content = asdict(shape)
    for space in (content["source"], content["target"]):
        del space["means"], space["stds"]
    return content


def load_adapter(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Adapter:
    """Read what `save_adapter` wrote, or a published interposer: frozen, in eval mode.

    Raises FileNotFoundError, CheckpointError.
    """
    path = Path(path)
    weights, metadata = read_tensors(path)
    try:
        known = FIRST_WEIGHT in weights and "format" not in metadata
        adapter = interposer_of(path.name, weights) if known else _adapter_of(metadata, weights)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return adapter.to(device).eval().requires_grad_(False)


def _adapter_of(metadata: Mapping[str, str], weights: Mapping[str, Tensor]) -> LatentAdapter:
    FORMAT.check(metadata)
    shape = _shape_of(_json(metadata, "shape"))
    adapter = LatentAdapter(shape, device="meta")
    expected = {name: list(tensor.shape) for name, tensor in adapter.state_dict().items()}
    for name in expected.keys() | weights.keys():
        found = list(weights[name].shape) if name in weights else None
        if found != expected.get(name):
            raise ValueError(f"its weight {name!r} has shape {found}; expected {expected.get(name)}")
    if metadata.get("sha256") != weights_hash(weights):
        raise ValueError("its weights do not fit the hash in it: the file was damaged or changed")
    if not all(map(all_finite, weights.values())):
        raise ValueError("it holds NaN or infinite weights")
    adapter.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    figures = _json(metadata, "figures")
    adapter.figures = None if figures is None else _record(AdapterFigures, figures)
    adapter.trained_with = metadata.get("model") or None
    adapter.trained_from = metadata.get("inputs") or None
    return adapter


def _shape_of(content: Any) -> AdapterShape:
    if not isinstance(content, dict):
        raise ValueError(f"its shape is {content!r}; expected an object")
    spaces = {name: _record(LatentSpace, content.get(name)) for name in ("source", "target")}
    for space in spaces.values():
        if not 1 <= space.channels <= 4096 or not 1 <= space.factor <= 1024:
            raise ValueError(f"its space {space.name!r} has {space.channels} channels, factor {space.factor}")
    return _record(AdapterShape, {**content, **spaces})


def _record(kind: type[T], content: Any) -> T:
    """A dataclass from JSON. ValueError for anything missing, unknown, of another type or not finite."""
    known = fields(kind)  # pyright: ignore[reportArgumentType]
    names = {field.name for field in known}
    needed = {field.name for field in known if field.default is MISSING}
    if not isinstance(content, dict) or not needed <= set(content) <= names:
        raise ValueError(f"expected an object with {', '.join(sorted(names))}; got {content!r:.200}")
    for field in known:
        value = content.get(field.name, field.default)
        wanted = {"int": int, "str": str}.get(str(field.type), object)
        number = isinstance(value, (int, float))
        if not isinstance(value, wanted) or isinstance(value, bool) or (number and not math.isfinite(value)):
            raise ValueError(f"its {field.name} is {value!r}; expected {field.type}")
        if "float" in str(field.type) and not (number or (value is None and "None" in str(field.type))):
            raise ValueError(f"its {field.name} is {value!r}; expected a number")
    return kind(**content)


def _json(metadata: Mapping[str, str], entry: str) -> Any:
    try:
        return json.loads(metadata[entry])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"its metadata entry {entry!r} is missing or no JSON") from error


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
