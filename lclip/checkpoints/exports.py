"""Writing a Latent-CLIP as other programs lay models out: a folder that transformers' CLIPModel reads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .atomic import beside
from .checkpoint import FOLDER_ENTRY, FORMAT, Checkpoint, check_written
from .folders import CONFIG, WEIGHTS, read_json
from .layouts import clip_model_config, to_transformers
from .targets import check_name, check_writable
from .tensors import write_tensors
from .tokenizer_files import tokenizer_files

NOTE = "preprocessor_config.json"
README = "README.md"
KNOWN = {CONFIG, WEIGHTS, NOTE, README, "vocab.json", "merges.txt", "tokenizer.json"}
KNOWN |= {"tokenizer_config.json", "special_tokens_map.json"}

CARD = """---
library_name: transformers
tags: [clip, latent-clip, latent-diffusion]
---
# A Latent-CLIP as a CLIPModel
`pixel_values` are not pixels. They are latents as the VAE encodes them ({space}):
[B, {channels}, {size}, {size}], not scaled for sampling, and clean. Pass them to the model as they are;
nothing resizes, rescales or normalises them.

```python
import torch
from transformers import AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
words = tokenizer(["a red fox", "a blue car"], padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    seen = model(pixel_values=latents, **words)
seen.image_embeds, seen.text_embeds, seen.logits_per_image
```

`lclip.load(folder)` reads it back, with latents of any size. Text with broken encoding or HTML's entities
is repaired there, and not by transformers. Made from `{source}`, SHA-256 `{sha}`.
The licence is that of the weights.
"""


def write_for_transformers(
    folder: Path,
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    source: Mapping[str, str],
    overwrite: bool = False,
) -> Path:
    """Write config, weights, tokenizer and a note on what goes in, as one step. Returns the folder.

    A folder of that name is replaced where it was written so, or with `overwrite`, and holds nothing else
    than such files. Raises ValueError, FileNotFoundError, CheckpointError.
    """
    weights = {name: tensor.to(dtype) for name, tensor in checkpoint.weights.items()}
    check_written(weights, folder, dtype)
    texts = tokenizer_files(checkpoint.config, checkpoint.tokenizer)
    texts[CONFIG] = _json(_about(checkpoint, dtype, source))
    texts[NOTE] = _json(_preprocessing(checkpoint))
    texts[README] = _card(checkpoint, source)
    with atomic_folder(folder, overwrite) as temporary:
        write_tensors(temporary / WEIGHTS, to_transformers(weights), {"format": "pt"})
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
    return folder


def check_folder(folder: Path, overwrite: bool = False) -> Path:
    """A folder that can be written, or replaced: one of ours, or any model's with `overwrite`.

    Raises ValueError, FileNotFoundError.
    """
    check_name(folder)
    check_writable(beside(folder, "tmp"))
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"{folder} is a file or a link; expected the name of a folder")
    others = sorted({path.name for path in folder.iterdir()} - KNOWN) if folder.is_dir() else []
    if others:
        raise ValueError(f"{folder} holds other files, such as {others[0]}; give the name of a new folder")
    if folder.is_dir() and any(folder.iterdir()) and not (overwrite or _ours(folder)):
        raise ValueError(
            f"{folder} holds a model that another program wrote; remove it first, or give the name of a new "
            "folder. In Python, overwrite=True replaces it"
        )
    return folder


def _ours(folder: Path) -> bool:
    """Whether the folder was written here, as its config.json says."""
    try:
        return FOLDER_ENTRY in read_json(folder / CONFIG)
    except (OSError, CheckpointError):
        return False


@contextmanager
def atomic_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside the final one: it takes its place on success, and is removed on failure.

    The old folder is gone only when the new one is there.
    """
    check_folder(folder, overwrite)
    temporary, old = beside(folder, "tmp"), beside(folder, "old")
    try:
        temporary.mkdir()
        yield temporary
        _take_place(temporary, folder, old)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(new: Path, folder: Path, old: Path) -> None:
    """The new folder in the place of the old one, which is put back where that fails."""
    if not folder.exists():
        os.replace(new, folder)
        return
    os.replace(folder, old)
    try:
        os.replace(new, folder)
    except BaseException as error:
        try:
            os.replace(old, folder)
        except OSError:
            raise OSError(f"{error}. What was in {folder} is in {old} now; give it its name back") from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def _about(checkpoint: Checkpoint, dtype: torch.dtype, source: Mapping[str, str]) -> dict[str, Any]:
    ours = {**FORMAT.head(), "config": json.loads(checkpoint.config.to_json())}
    ours |= {
        "latent_space": checkpoint.config.latent_space,
        "tokenizer": dict(checkpoint.tokenizer),
        **source,
    }
    named = str(dtype).removeprefix("torch.")
    return {**clip_model_config(checkpoint.config), "torch_dtype": named, FOLDER_ENTRY: ours}


def _preprocessing(checkpoint: Checkpoint) -> dict[str, Any]:
    """Nothing is done to latents; for programs that look before they load, and for people."""
    config = checkpoint.config
    nothing = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
    size = {"height": config.native_size, "width": config.native_size}
    space = config.space.title if config.space else config.latent_space
    note = (
        f"pixel_values are raw, clean VAE latents ({space}), {config.channels} channels; no picture goes in"
    )
    return {
        **dict.fromkeys(nothing, False),
        "image_processor_type": "CLIPImageProcessor",
        "size": size,
        "crop_size": size,
        "latents": note,
    }


def _card(checkpoint: Checkpoint, source: Mapping[str, str]) -> str:
    config = checkpoint.config
    space = config.space.title if config.space else config.latent_space
    name, sha = source.get("source_name", ""), source.get("source_sha256", "")
    return CARD.format(space=space, channels=config.channels, size=config.native_size, source=name, sha=sha)


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
