"""`python -m lclip info`: what a file is."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from .parsing import add_command

Facts = dict[str, Any]
"""What is known of a file, by name."""


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "info",
        run,
        """
        Say what a file is: a checkpoint, latents, a tar shard, a safety policy, an adapter or a taste.
        Of a checkpoint: its sizes, which latents it reads, and where it comes from. The whole file is read
        and checked. Exit code: 0, or 2 for a file that is damaged or of no known kind.
        """,
        """
        python -m lclip info latent-clip-b-8.safetensors
        python -m lclip info ComfyUI/output/latents/ComfyUI_00001_.latent
        """,
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="of any kind that this library reads, or a folder with a model",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Describe the file."""
    facts = describe(options.file)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        width = max(map(len, facts))
        print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))
    return 0


def describe(path: Path) -> Facts:
    """The facts of a file of any kind. Raises FileNotFoundError, ValueError."""
    from ..data.shards import is_shard

    if path.is_dir():
        return {"folder": str(path), **_checkpoint(path, {})}
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    about: Facts = {"file": str(path), "size": f"{path.stat().st_size / 1e6:.1f} MB"}
    if path.suffix.lower() == ".json":
        return {**about, **_policy(path)}
    if is_shard(path) or path.suffix.lower() in (".latent", ".npy", ".npz"):
        return {**about, **_latents(path)}
    metadata = _metadata(path)
    if metadata.get("format", "latent-clip") != "latent-clip":
        return {**about, "kind": metadata.pop("format"), **metadata}
    try:
        return {**about, **_checkpoint(path, metadata)}
    except ValueError as error:
        try:
            return {**about, **_latents(path)}
        except ValueError:
            raise error from None


def _checkpoint(path: Path, metadata: dict[str, str]) -> Facts:
    from ..checkpoints.checkpoint import load, read_checkpoint
    from ..checkpoints.fingerprint import fingerprint

    checkpoint = read_checkpoint(path)
    config, weights = checkpoint.config, checkpoint.weights
    stored = sorted({str(weight.dtype).removeprefix("torch.") for weight in weights.values()})
    sources = {"made from": "source_name", "its SHA-256": "source_sha256"}
    return {
        "kind": "CLIP that reads pictures" if config.channels == 3 else "Latent-CLIP",
        "reads": _reads(config),
        "parameters": f"{sum(weight.numel() for weight in weights.values()) / 1e6:.1f} M",
        "stored as": ", ".join(stored),
        "embedding": config.embed_dim,
        "image tower": f"patch {config.patch_size}, {_tower(config, 'vision')}",
        "text tower": f"{_tower(config, 'text')}, context {config.context_length}",
        "tokenizer": f"{config.tokenizer}, {config.vocab_size} tokens",
        "logit scale": round(float(weights["logit_scale"].float().exp()), 4),
        **{title: metadata[entry] for title, entry in sources.items() if metadata.get(entry)},
        "fingerprint": fingerprint(load(path)),
    }


def _reads(config: Any) -> str:
    space, native = config.space, config.native_size
    title = space.title if space else f"{config.latent_space!r} latents"
    pixels = f", {native * space.factor} px pictures" if space and space.factor > 1 else ""
    return f"{title}: {config.channels} channels, {native}x{native} cells{pixels}"


def _tower(config: Any, name: str) -> str:
    width, layers, heads = (getattr(config, f"{name}_{what}") for what in ("width", "layers", "heads"))
    return f"width {width}, {layers} layers, {heads} heads"


def _latents(path: Path) -> Facts:
    """Counts over a file or shard, item by item. Raises ValueError where none can be read."""
    import torch

    from ..data.reader import read_items
    from ..data.shards import is_shard

    shapes: Counter[str] = Counter()
    captions, problems, first = 0, 0, ""
    least, most = float("inf"), 0.0
    for item in read_items(path):
        captions += item.caption is not None
        if item.latents is None:
            problems, first = problems + 1, first or f"{item.item or 'at its end'}: {item.problem}"
            continue
        finite = bool(torch.isfinite(item.latents).all())
        shapes["x".join(map(str, item.latents.shape)) + ("" if finite else " with NaN")] += 1
        spread = float(item.latents.square().mean().sqrt())
        least, most = min(least, spread), max(most, spread)
    if problems and not shapes and not is_shard(path):
        raise ValueError(f"{path}: {first.partition(': ')[2]}")
    sizes = ", ".join(f"{shape} ({count})" for shape, count in shapes.most_common(5))
    facts: Facts = {
        "kind": "tar shard of latents" if is_shard(path) else "latents",
        "latents": sum(shapes.values()),
        "channels x height x width": sizes,
        "spread": f"{least:.3g} to {most:.3g} (root mean square)",
    }
    if is_shard(path):
        facts["captions"] = captions
    if problems:
        facts["cannot be read"] = f"{problems}, the first: {first}"
    return facts


def _policy(path: Path) -> Facts:
    from ..data.texts import read_text
    from ..safety.stored import policy_in

    policy = policy_in(read_text(path))
    pairs = zip(policy.concepts, policy.thresholds, strict=True)
    return {
        "kind": "safety policy",
        "name": policy.name,
        "for": f"{policy.latent_space or 'any'} latents",
        "calibrated": f"with the model {policy.model}" if policy.model else "no: its thresholds are guesses",
        "blocks": ", ".join(f"{concept.name} from {threshold:.4g}" for concept, threshold in pairs),
        "hash": policy.digest(),
    }


def _metadata(path: Path) -> dict[str, str]:
    """The texts in the head of a .safetensors; nothing for another file, or a damaged one."""
    from ..checkpoints.tensors import open_tensors

    try:
        with open_tensors(path) as file:
            return file.metadata
    except ValueError:
        return {}
