"""A cache of encoded pictures that grows in shards: what is there is not encoded again.

<cache>/encoded/<plan>/<space>-<size>/00012.safetensors holds `latents` [N, C, h, w] in fp16, raw, or, for the
space "pixels", uint8 pictures [N, 3, H, W]; 00012.jsonl beside it holds N items, one a line. Every shard has
items of all splits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .plans import Item, render
from .reading import PictureError
from .taesd import Taesd, load_taesd

PIXELS = "pixels"
Size = int | tuple[int, int]
"""Of a square's side, or width and height, in pixels."""


@dataclass(frozen=True)
class Encoded:
    """latents [N, C, h, w] as they are stored, and what each is of: the fields of `plans.Item`."""

    latents: Tensor
    items: list[dict]

    def of(self, split: str | None = None, held_out: bool | None = None) -> Encoded:
        """Those of one split, with or without the set that is held out as another hand's."""
        chosen = [
            index
            for index, item in enumerate(self.items)
            if split in (None, item["split"]) and held_out in (None, item["held_out"])
        ]
        return Encoded(self.latents[chosen], [self.items[index] for index in chosen])


def folder_of(cache: Path, plan: str, space: str, size: Size) -> Path:
    """Where the shards of a plan in a space at a size lie."""
    return plan_folder(cache, plan) / f"{space}-{size if isinstance(size, int) else 'x'.join(map(str, size))}"


def plan_folder(cache: Path, plan: str) -> Path:
    """Where all of a plan lies, by space and size."""
    return cache / "encoded" / plan


def encode_plan(
    cache: Path,
    plan: str,
    items: Sequence[Item],
    space: str,
    size: Size,
    shard: int = 16,
    most: int | None = None,
    say: Callable[[str], None] = print,
    precision: torch.dtype = torch.float32,
) -> int:
    """Encode what is not there yet, a shard of `shard` items at a time. -> pictures encoded by this call.

    most: stop when so many items are there, at the end of a shard. precision: of the encoder. Raises
    TinyMissing without TAESD; ValueError where the shards there are of another plan.
    """
    folder = folder_of(cache, plan, space, size)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = None if space == PIXELS else load_taesd(space).quick(precision)
    done = 0
    for number, start in enumerate(range(0, min(len(items), most or len(items)), shard)):
        batch = items[start : start + shard]
        target = folder / f"{number:05d}.safetensors"
        if _is_there(target, batch):
            continue
        latents, kept = _encode(encoder, batch, size, cache)
        _write(target, latents, kept)
        done += len(kept)
        say(f"{plan} {space} {size}: {start + len(batch)} of {len(items)}, {len(batch) - len(kept)} left out")
    return done


def load_encoded(cache: Path, plan: str, space: str, size: Size) -> Encoded:
    """All shards that are there, in the plan's order. FileNotFoundError where there is none."""
    paths = sorted(folder_of(cache, plan, space, size).glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"nothing is encoded in {folder_of(cache, plan, space, size)}")
    items = [json.loads(line) for path in paths for line in _lines(path)]
    return Encoded(torch.cat([load_file(path)["latents"] for path in paths]), items)


def pairs(first: Encoded, second: Encoded) -> tuple[Tensor, Tensor, list[dict]]:
    """The latents of the items that both have, in the first one's order."""
    places = {item["id"]: index for index, item in enumerate(second.items)}
    both = [index for index, item in enumerate(first.items) if item["id"] in places]
    items = [first.items[index] for index in both]
    return first.latents[both], second.latents[[places[item["id"]] for item in items]], items


def _lines(path: Path) -> list[str]:
    return path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()


def _is_there(target: Path, batch: Sequence[Item]) -> bool:
    """Whether a shard is whole. ValueError where it is of other items."""
    if not target.exists():
        return False
    try:
        load_file(target)
        found = {json.loads(line)["id"] for line in _lines(target)}
    except (SafetensorError, OSError, ValueError):
        return False
    if not found <= {item.id for item in batch}:
        raise ValueError(
            f"{target} holds other items than the plan has there; the pictures or the plan have changed: "
            f"remove {target.parent} to encode anew"
        )
    return True


def _encode(
    encoder: Taesd | None, batch: Sequence[Item], size: Size, cache: Path
) -> tuple[Tensor, list[Item]]:
    encoded, kept = [], []
    with torch.inference_mode():
        for item in batch:
            try:
                # channels last in memory, as convolutions on a CPU like it
                picture = torch.from_numpy(render(item, size, cache).copy()).permute(2, 0, 1)[None]
            except PictureError:
                continue
            kept.append(item)
            encoded.append(picture if encoder is None else _encoded(encoder, picture))
    return torch.cat(encoded) if encoded else torch.empty(0), kept


def _encoded(encoder: Taesd, picture: Tensor) -> Tensor:
    precision = next(encoder.parameters()).dtype
    return encoder.encode((picture / 255).to(precision)).half()


def _write(target: Path, latents: Tensor, items: Sequence[Item]) -> None:
    """The items first, then the latents: a shard whose latents are there is whole."""
    lines = "".join(json.dumps(item.record(), ensure_ascii=False) + "\n" for item in items)
    for path, save in (
        (target.with_suffix(".jsonl"), lambda part: part.write_text(lines, encoding="utf-8")),
        (target, lambda part: save_file({"latents": latents.contiguous()}, part)),
    ):
        part = path.with_name(f"{path.name}.part")
        save(part)
        os.replace(part, path)
