"""What real latents, other sizes of them and other models' latents tell a small Latent-CLIP of drawings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lclip
from lclip import SIZE_RULES
from lclip.adapters.bridge import resized
from lclip.model.latent_clip import LatentCLIP
from lclip.statistics import bootstrap, wilson

from .harness import Run, Skipped, table
from .real import probe as probes
from .real.encoded import PIXELS, Encoded, Size, load_encoded
from .real.fetching import cache_folder
from .real.probe_plan import NATIVE, WAYS
from .real.taesd import CAVEAT, TinyMissing, load_taesd

QUESTIONS = {
    "style": "another hand's drawings of names that were learnt, on white",
    "grounds": "the same on plain colours and photographs",
    "names": "the same hands' drawings of names that were not learnt, on white",
}
JUDGE = "patch-4"


@dataclass(frozen=True)
class Asked:
    """A question's drawings in whole groups of `WAYS`. texts: their embeddings, [N, D]."""

    found: Encoded
    texts: Tensor

    @property
    def number(self) -> int:
        return len(self.found.items)

    def first(self, number: int) -> Asked:
        """So many of them."""
        found = Encoded(self.found.latents[:number], self.found.items[:number])
        return Asked(found, self.texts[:number])


def probe(run: Run) -> str:
    """100-way retrieval of drawings by their captions."""
    cache = cache_folder()
    number, hands = _learnt(cache)
    if not probes.checkpoint(cache, JUDGE).is_file():
        raise Skipped("no probe is trained; `python -m benchmarks.real probe` trains them")
    rows = [_retrieval(cache, reader, run) for reader in probes.READERS]
    questions = "; ".join(f"{name}: {text}" for name, text in QUESTIONS.items())
    return (
        f"Small CLIPs ({_weights()}) trained alike by `lclip train`'s recipe, {probes.STEPS} steps of "
        f"{probes.BATCH}, on {number} drawings of {hands} sets, {NATIVE} px, {probes.CELLS}x{probes.CELLS} "
        f"cells of SDXL's latents, {CAVEAT}, encoded and trained in bfloat16. Emoji and clip art with names "
        "and key words, at random places and scales. The CLIP that reads pixels has patches of as many, at "
        f"{probes.PICTURES} px. {WAYS}-way retrieval by caption, chance {100 / WAYS:.0f} %. {questions}.\n\n"
        + table(("reads", *QUESTIONS), rows)
        + "\n\n"
        + _sizes(cache, run)
        + "\n\n"
        + _adapters(cache, run)
    )


def _learnt(cache: Path) -> tuple[int, int]:
    try:
        items = probes.load_learnt(cache, "sdxl").items
    except FileNotFoundError as missing:
        raise Skipped("no drawings are encoded; `python -m benchmarks.real probe` does it") from missing
    return len(items), len({item["source"] for item in items})


def _weights() -> str:
    sizes = probes.config(JUDGE)
    return (
        f"{sizes.vision_layers} layers of width {sizes.vision_width} that see, {sizes.text_layers} of "
        f"{sizes.text_width} that read"
    )


def _retrieval(cache: Path, reader: str, run: Run) -> list[str]:
    patch, space = probes.READERS[reader]
    title = f"{'pixels' if space == PIXELS else 'latents'}, {probes.config(reader).grid ** 2} tokens"
    if not probes.checkpoint(cache, reader).is_file():
        return [title, *["not trained"] * len(QUESTIONS)]
    model = lclip.load(probes.checkpoint(cache, reader))
    cells = []
    for question in QUESTIONS:
        asked = _asked(cache, model, question, space, probes.side_of(space))
        run.say(f"{reader} {question}: {asked.number} drawings")
        images = embeddings(model.encode_latents, _as_read(asked.found.latents, space))
        cells.append(_share(hits(images, asked.texts)) if asked.number else "not encoded")
    return [title, *cells]


def _as_read(z: Tensor, space: str) -> Tensor:
    return probes.pixels_as_read(z.float() / 255) if space == PIXELS else z.float()


def _asked(cache: Path, model: LatentCLIP, question: str, space: str, size: Size) -> Asked:
    """What is encoded of a question, in whole groups; of "style" only names that were learnt."""
    try:
        found = load_encoded(cache, f"probe-{question}", space, size)
    except FileNotFoundError:
        return Asked(Encoded(torch.empty(0), []), torch.empty(0))
    known = {item["name"] for item in probes.load_learnt(cache, "sdxl").items}
    chosen = [i for i, item in enumerate(found.items) if (item["name"] in known) == (question != "names")]
    chosen = chosen[: len(chosen) // WAYS * WAYS]
    items = [found.items[i] for i in chosen]
    with torch.inference_mode():
        texts = model.encode_text([probes.caption(item) for item in items]) if items else torch.empty(0)
    return Asked(Encoded(found.latents[chosen], items), texts)


def _sizes(cache: Path, run: Run) -> str:
    """What each size rule keeps of larger latents of the same drawings."""
    model = lclip.load(probes.checkpoint(cache, JUDGE))
    rows = []
    for title, size in probes.SIZES.items():
        asked = _asked(cache, model, "style", "sdxl", size)
        if not asked.number:
            continue
        native = _native(cache, model, asked)
        run.say(f"{title}: {asked.number} drawings")
        z = asked.found.latents
        ways = {rule: embeddings(partial(model.encode_latents, size_rule=rule), z) for rule in SIZE_RULES}
        rows += [[title, *_kept(way, images, native, asked)] for way, images in ways.items()]
        if title in probes.THROUGH:
            rows.append([title, *_through(run, model, f"{title} through", "sdxl", asked, native)])
    if not rows:
        return "Other sizes: not encoded."
    return (
        "Latents of larger pictures of the same drawings by every size rule, patch 4, question style. Kept: "
        "of the hits natively. Cosine: to the embedding of the same drawing's native latents.\n\n"
        + table(("size", "rule", "100-way", "kept", "cosine"), rows)
    )


def _adapters(cache: Path, run: Run) -> str:
    """What the shipped adapters keep of other models' latents of the same drawings."""
    model = lclip.load(probes.checkpoint(cache, JUDGE))
    rows = []
    for space in probes.OTHERS:
        asked = _asked(cache, model, "style", space, NATIVE)
        if not asked.number:
            continue
        native = _native(cache, model, asked)
        run.say(f"{space}: {asked.number} drawings")
        adapted = lclip.apply_adapter(model, lclip.shipped_adapter(space))
        images = embeddings(adapted.encode_latents, asked.found.latents)
        rows.append([space, *_kept("the shipped adapter", images, native, asked)])
        if space in probes.THROUGH:
            rows.append([space, *_through(run, model, f"{space} through", space, asked, native)])
    if not rows:
        return "Other models' latents: not encoded."
    return "Other models' latents of the same drawings, as SDXL's.\n\n" + table(
        ("from", "way", "100-way", "kept", "cosine"), rows
    )


def _native(cache: Path, model: LatentCLIP, asked: Asked) -> Tensor:
    """Embeddings of the native latents of the same drawings."""
    found = load_encoded(cache, "probe-style", "sdxl", NATIVE)
    places = {item["id"]: index for index, item in enumerate(found.items)}
    return embeddings(model.encode_latents, found.latents[[places[item["id"]] for item in asked.found.items]])


def _through(run: Run, model: LatentCLIP, name: str, space: str, asked: Asked, native: Tensor) -> list[str]:
    """Of the first group, by the way through pixels: decoded, shrunk to the native size, encoded again."""
    asked, native = asked.first(WAYS), native[:WAYS]

    @torch.inference_mode()
    def job() -> dict[str, np.ndarray]:
        try:
            source, target = (load_taesd(name).quick(probes.PRECISION) for name in (space, "sdxl"))
        except TinyMissing as missing:
            raise Skipped(str(missing)) from missing
        pictures = (source.decode(z[None].to(probes.PRECISION)).float() for z in asked.found.latents)
        parts = [target.encode(resized(each, NATIVE, NATIVE).to(probes.PRECISION)) for each in pictures]
        return {"latents": torch.cat(parts).half().numpy()}

    z = torch.from_numpy(run.part(f"{name} {asked.number}", job)["latents"])
    return _kept("through pixels", embeddings(model.encode_latents, z), native, asked)


def _kept(way: str, images: Tensor, native: Tensor, asked: Asked) -> list[str]:
    found, before = hits(images, asked.texts), hits(native, asked.texts)
    cosines = (images * native).sum(-1).numpy()
    kept = found.sum() / max(1, before.sum())
    return [way, _share(found), f"{100 * kept:.0f} %", bootstrap(cosines).text(digits=3)]


def _share(found: np.ndarray) -> str:
    return f"{wilson(int(found.sum()), len(found)).percent()}, n = {len(found)}"


def hits(images: Tensor, texts: Tensor, ways: int = WAYS) -> np.ndarray:
    """Whether each picture's own text is the nearest of those of its group: [N], bool."""
    groups = zip(images.split(ways), texts.split(ways), strict=True)
    return torch.cat([(i @ t.T).argmax(1) == torch.arange(len(i)) for i, t in groups]).numpy()


def embeddings(read: Callable[[Tensor], Tensor], z: Tensor, size: int = 50) -> Tensor:
    """Embeddings of latents [N, C, h, w], so many at a time: [N, D]."""
    with torch.inference_mode():
        return torch.cat([read(part.float()) for part in z.split(size)]) if len(z) else torch.empty(0)
