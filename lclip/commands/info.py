"""`python -m lclip info`: what a file is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .parsing import add_command


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "info",
        run,
        """
        Say what a checkpoint is: its sizes, which latents it reads, where it comes from.
        The whole file is read and checked, as it is when it is loaded.
        """,
        "python -m lclip info latent-clip-b-8.safetensors",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a .pt as released, or a .safetensors")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Describe the file."""
    facts = describe_checkpoint(options.file)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        width = max(map(len, facts))
        print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))
    return 0


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """A Latent-CLIP's facts, by name. Raises FileNotFoundError, CheckpointError."""
    from ..checkpoint import load, read_checkpoint
    from ..fingerprint import fingerprint

    checkpoint = read_checkpoint(path)
    config, weights = checkpoint.config, checkpoint.weights
    stored = sorted({str(weight.dtype).removeprefix("torch.") for weight in weights.values()})
    return {
        "file": str(path),
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
        "kind": "CLIP that reads pictures" if config.channels == 3 else "Latent-CLIP",
        "reads": _reads(config),
        "parameters": f"{sum(weight.numel() for weight in weights.values()) / 1e6:.1f} M",
        "stored as": ", ".join(stored),
        "embedding": config.embed_dim,
        "image tower": f"patch {config.patch_size}, {_tower(config, 'vision')}",
        "text tower": f"{_tower(config, 'text')}, context {config.context_length}",
        "tokenizer": f"{config.tokenizer}, {config.vocab_size} tokens",
        "logit scale": round(float(weights["logit_scale"].float().exp()), 4),
        **_source(path),
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


def _source(path: Path) -> dict[str, str]:
    """Where a converted file comes from, as its metadata say."""
    from safetensors import safe_open

    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            return {"made by": "torch.save"}
    with safe_open(path, framework="pt") as content:
        metadata = content.metadata() or {}
    entries = {"made from": "source_name", "its SHA-256": "source_sha256"}
    return {title: metadata[entry] for title, entry in entries.items() if metadata.get(entry)}
