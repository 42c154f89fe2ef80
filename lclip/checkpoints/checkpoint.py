"""Reading and writing Latent-CLIP files: the released pickles, bare state dicts, and our safetensors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..latents.size_rules import DEFAULT_SIZE_RULE, check_size_rule, rule_in_force
from ..model.config import LatentCLIPConfig, config_from_state_dict
from ..model.latent_clip import LatentCLIP, stored_name
from ..model.tokenizer import Tokenizer
from ..model.tokenizers import tokenizer_for
from .folders import open_folder
from .formats import Format
from .layouts import from_transformers, said_by_clip_model
from .pickles import is_old_pickle, let_go, read_pickle
from .tensors import all_finite, read_tensors, tensors_in_turn, write_tensors
from .weights import check_architecture, check_finite, check_tensors, check_weights, refuse_infinite

FORMAT = Format("latent-clip", "Latent-CLIP")
FOLDER_ENTRY = "latent_clip"  # what is ours in a config.json
# The training checkpoints carry the frozen VAE encoder that made their latents.
DROPPED = ("visual.vae_encoder.", "visual.vae_quant_conv.")


@dataclass(frozen=True)
class Checkpoint:
    """A file's content, checked: weights under their stored names (on disk until used), and what they are."""

    path: Path
    weights: dict[str, Tensor]
    config: LatentCLIPConfig
    tokenizer: dict[str, Any]  # as tokenizer_for takes it
    files: tuple[Path, ...] = ()  # that hold the weights
    in_turn: Callable[[], Iterator[tuple[str, Tensor]]] | None = None

    def each(self) -> Iterator[tuple[str, Tensor]]:
        """The weights by their stored names, to be used one after the other: what was read is let go."""
        return iter(self.weights.items()) if self.in_turn is None else self.in_turn()

    def make_tokenizer(self) -> Tokenizer | None:
        """The stored tokenizer; None for CLIP's own, whose vocabulary is looked for at the first text."""
        if self.tokenizer.get("kind") == "clip-bpe":
            return None
        try:
            return tokenizer_for(self.config, self.tokenizer)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {error}") from error


def load(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    operations: Any = nn,
    size_rule: str | None = None,
) -> LatentCLIP:
    """Load a Latent-CLIP for inference: frozen, in eval mode.

    path: a released training checkpoint (.pt), a bare state dict, or .safetensors, told apart by content; or
        a folder with one of them, as a hub repository's snapshot is, or as transformers saves a CLIPModel.
    dtype: of the weights and the maths; None is float32: exact for every stored type, and fast on a CPU.
    operations: see LatentCLIP. size_rule: how the model reads latents of another size, everywhere; None is
    the default, and "fit" is "interpolate" where there is no map for its latents. Pickles, those of PyTorch
    before 1.6 too, are followed by a reader that can call nothing. Raises FileNotFoundError, CheckpointError.
    """
    rule = check_size_rule(size_rule or DEFAULT_SIZE_RULE)
    checkpoint = _opened(Path(path))
    model = LatentCLIP(checkpoint.config, operations, device="meta", tokenizer=checkpoint.make_tokenizer())
    with _naming(checkpoint.path):
        check_architecture(checkpoint.weights, model)
    model.load_state_dict(_copied(checkpoint, device, dtype or torch.float32), strict=True, assign=True)
    model.size_rule = rule_in_force(rule, checkpoint.config)
    return model.eval().requires_grad_(False)


def _copied(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights in memory of their own, checked on the way, while each is at hand.

    Always a copy: weights that stay mapped would change under the model when the file is written again.
    """
    weights, bad = {}, []
    for name, tensor in checkpoint.each():
        own = tensor.to("cpu", dtype, copy=True)
        # The narrower of both tells it of the other, in half the time.
        if not all_finite(own if own.element_size() < tensor.element_size() else tensor):
            bad.append(name)
        weights[name] = own.to(device)
        del tensor
    refuse_infinite(bad, checkpoint.path, "" if dtype == torch.float32 else f"in {dtype}")
    return weights


def save_checkpoint(
    model: LatentCLIP,
    path: str | os.PathLike[str],
    dtype: torch.dtype | None = None,
    source_name: str = "",
    source_sha256: str = "",
) -> Path:
    """Write a model as .safetensors; dtype None keeps the weights' type. Atomic. Returns the path."""
    if hasattr(model, "adapter"):
        raise ValueError(
            "this Latent-CLIP stands behind an adapter, and a checkpoint holds the model alone; expected one "
            "without. Save the adapter with lclip.save_adapter, and apply it again after loading."
        )
    weights = {stored_name(name): tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    source = {"source_name": source_name, "source_sha256": source_sha256}
    return write_checkpoint(Path(path), weights, model.config, model.tokenizer_metadata(), dtype, source)


def write_checkpoint(
    path: Path,
    weights: Mapping[str, Tensor],
    config: LatentCLIPConfig,
    tokenizer: Mapping[str, Any],
    dtype: torch.dtype | None,
    source: Mapping[str, str],
) -> Path:
    """Write weights under their stored names, with all that is needed to load them, as one atomic step."""
    stored = {name: tensor.to(dtype or tensor.dtype) for name, tensor in weights.items()}
    check_written(stored, path, dtype)
    metadata = {
        **FORMAT.head(),
        "config": config.to_json(),
        "latent_space": config.latent_space,
        "tokenizer": json.dumps(dict(tokenizer)),
        **source,
    }
    return write_tensors(path, stored, metadata)


def check_written(weights: Mapping[str, Tensor], path: Path, dtype: torch.dtype | None) -> None:
    """Weights that the type they are stored in can hold; CheckpointError otherwise."""
    check_finite(weights, path, f"in {dtype}; choose bfloat16 or float32" if dtype else "")


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open and check what `load` takes, a file or a folder. Raises FileNotFoundError, CheckpointError."""
    checkpoint = _opened(Path(path))
    with _naming(checkpoint.path):
        check_weights(checkpoint.weights, checkpoint.config, checkpoint.path)
    return checkpoint


def _opened(path: Path) -> Checkpoint:
    """The same before its weights are compared with the architecture, and their numbers looked at."""
    return _read_folder(path) if path.is_dir() else _read_file(path)


def _read_file(path: Path) -> Checkpoint:
    mapped: list[Any] = []
    raw, metadata = read_weights(path, mapped)
    with _naming(path):
        checkpoint = _checked(path, raw, metadata)
    if mapped:
        return replace(checkpoint, in_turn=partial(_let_go_in_turn, checkpoint.weights, mapped[0]))
    names = {id(tensor): name for name, tensor in checkpoint.weights.items()}
    stored = {name: names[id(tensor)] for name, tensor in raw.items() if id(tensor) in names}
    return replace(checkpoint, in_turn=partial(_mapped_in_turn, path, stored))


def _let_go_in_turn(weights: Mapping[str, Tensor], mapped: Any) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights.items():
        yield name, tensor
        let_go(mapped, tensor)


def _mapped_in_turn(path: Path, stored: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """stored: the stored name of each that the file has under another."""
    for name, tensor in tensors_in_turn(path, stored):
        yield stored[name], tensor


def _read_folder(path: Path) -> Checkpoint:
    folder = open_folder(path)
    if folder.about is None:
        return _read_file(folder.files[0])
    raw: dict[str, Any] = {}
    for file in folder.files:
        part, _ = read_weights(file)
        with _naming(file):
            check_tensors(part, file)  # before any of them is copied
        raw |= part
    with _naming(path):
        weights = from_transformers(raw)
        checked = _checked(folder.files[0].parent, weights, _folder_metadata(folder.about))
    return replace(checked, path=path, files=folder.files)


def _folder_metadata(about: Mapping[str, Any]) -> dict[str, str]:
    """A config.json as the head of a file of our own would say it."""
    said, ours = said_by_clip_model(about), about.get(FOLDER_ENTRY, {})
    if not isinstance(ours, dict) or not isinstance(config := ours.get("config", {}), dict):
        raise CheckpointError(
            f"config.json: {FOLDER_ENTRY} is {ours!r:.60}; expected an object with a config"
        )
    for name, value in said.items():
        if config.get(name, value) != value:
            raise CheckpointError(f"config.json says both {name} = {value!r} and {config[name]!r}")
    metadata = {name: ours[name] for name in ("format", "version") if name in ours}
    if "tokenizer" in ours:
        metadata["tokenizer"] = json.dumps(ours["tokenizer"])
    return {**metadata, "config": json.dumps({**config, **said})}


def read_weights(path: Path, mapped: list[Any] | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """What a PyTorch or safetensors file holds by name, unchecked, and its metadata (empty for a pickle).

    mapped: is given a pickle's mapped file. Nothing in it is run. Raises FileNotFoundError, CheckpointError.
    """
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if not path.is_file():
        raise CheckpointError(f"{path} is a folder; expected a .safetensors or .pt file")
    with path.open("rb") as file:
        start = file.read(16)
    with _naming(path):
        return _read_any(path, start, mapped)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file, its path is said."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, CheckpointError) and str(path) in str(error):
            raise
        raise CheckpointError(f"{path}: {error}") from error


def _read_any(path: Path, start: bytes, mapped: list[Any] | None) -> tuple[dict[str, Any], dict[str, str]]:
    if not start:
        raise CheckpointError("the file is empty; download it again")
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return read_tensors(path)
    if start[:4] == b"PK\x03\x04" or is_old_pickle(start):
        return _state_dict(read_pickle(path, mapped=mapped)), {}
    raise CheckpointError(
        f"neither a PyTorch checkpoint nor safetensors: it begins with {start!r}. If that reads like text or "
        "HTML, the download went wrong"
    )


def _state_dict(content: Any) -> dict[str, Any]:
    """The weights in a training checkpoint or a bare state dict."""
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}; expected a checkpoint or a state dict")
    weights = content.get("state_dict", content)
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise CheckpointError("its state_dict is not a dictionary of names; expected weights by name")
    return dict(weights)


def _checked(path: Path, raw: dict[str, Any], metadata: Mapping[str, str]) -> Checkpoint:
    if metadata.get("format", "").startswith(FORMAT.name):  # other programs have formats of their own
        FORMAT.check(metadata)
    weights = normalise_keys(raw)
    if not weights.keys() & {"visual.conv1.weight", "token_embedding.weight", "text_projection"}:
        if "text_model.final_layer_norm.weight" in weights:
            raise CheckpointError(
                "named as transformers names a CLIPModel; give its folder, with config.json"
            )
        names = ", ".join(repr(name[:60]) for name in list(weights)[:3]) or "no weights at all"
        raise CheckpointError(f"not a Latent-CLIP: it holds {names}")
    check_tensors(weights, path)
    config = config_from_state_dict(weights, _metadata_json(metadata, "config", {}))
    if "format" not in metadata and config.channels == 3:
        raise CheckpointError("a CLIP that reads pictures (3 channels), not latents; expected a Latent-CLIP")
    tokenizer = _metadata_json(metadata, "tokenizer", {"kind": config.tokenizer})
    return Checkpoint(path, weights, config, tokenizer, (path,))


def normalise_keys(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Weights under their stored names: without wrappers' prefixes and without the frozen VAE encoder."""
    weights: dict[str, Any] = {}
    for key, value in raw.items():
        name = stored_name(key.removeprefix("module.").replace("visual.latent_vit.", "visual.", 1))
        if name.startswith(DROPPED):
            continue
        if name in weights:
            raise CheckpointError(f"holds the weight {name!r} twice, under different prefixes")
        weights[name] = value
    return weights


def _metadata_json(metadata: Mapping[str, str], entry: str, default: dict[str, Any]) -> dict[str, Any]:
    try:
        value = json.loads(metadata[entry]) if entry in metadata else default
    except ValueError as error:
        raise CheckpointError(f"its metadata entry {entry!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"its metadata entry {entry!r} is a {type(value).__name__}; expected an object")
    return value
