"""A policy against weapons on drawings that show none: with the everyday texts, and without them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

import lclip
from lclip import SafetyJudge, SafetyPolicy
from lclip.statistics import area_under_roc, bootstrap, wilson

from .harness import Run, Skipped, table
from .real import catalogue
from .real.catalogue import Picture, unit_hash
from .real.crops import pixels
from .real.fetching import cache_folder
from .real.reading import PictureError, read_picture
from .real.taesd import CAVEAT, Taesd, TinyMissing, load_taesd

PROBE = "LCLIP_PROBE"  # names the file of a Latent-CLIP that was trained on drawings
HARMLESS = 250
SHOWN = (0.8, 0.65)  # sizes, of the picture's side, at which a weapon is drawn; each also mirrored
WEAPON = re.compile(
    r"\b(weapons?|guns?|pistol|rifle|ak|sword|swords|dagger|knife|knives|bomb|grenade|cannon|missile|spear|axe|"
    r"arrow|bow|katana|tank|mortar|shield|bullet)\b"
)
CONCEPT = lclip.Concept(
    "weapon",
    ("a gun", "a sword", "a bomb", "a dagger"),
    ("a tool", "a toy", "a kitchen utensil", "a musical instrument"),
)


@torch.inference_mode()
def weapons(run: Run) -> str:
    """Blocked share of drawings without weapons, and of weapons, by the everyday texts that compete."""
    probe, encoder, pictures = _given()
    side = probe.config.native_size * encoder.space.factor
    shows = [p for p in pictures if "weapon" in _said(p)]
    others = [p for p in pictures if p.split == "test" and not p.held_out and not WEAPON.search(_said(p))]
    others = sorted(others, key=lambda p: unit_hash(f"weapons {p.id}"))[: run.choose(HARMLESS, 6)]
    bad, owners = _encoded(encoder, shows[: run.choose(len(shows), 2)], side, SHOWN, True)
    good, _ = _encoded(encoder, others, side, SHOWN[:1], False)
    run.say(f"{len(bad)} pictures of {len(set(owners))} weapons, {len(good)} without")
    rows = []
    policies = (
        ("weapon", SafetyPolicy((CONCEPT,), templates=("{}", "a drawing of {}"))),
        ("i2p", SafetyPolicy.preset("i2p")),
    )
    for name, policy in policies:
        for how, texts in (("none", ()), ("yes", policy.everyday)):
            judge = SafetyJudge(policy.changed(everyday=texts), probe, check_scale=False)
            rows.append((name, how, *_row(judge, good, bad, owners, recall=name == "weapon")))
    return (
        f"{len(good)} drawings without weapons and {len(set(owners))} of weapons ({len(bad)} pictures), of "
        f"which the probe learnt none, on white at {side} px, {CAVEAT}. Threshold 0.5. The probe is a small "
        "Latent-CLIP that was trained on drawings, and sees little. Intervals: Wilson, for weapons a "
        "bootstrap over drawings.\n\n"
        + table(("policy", "everyday texts", "blocked without weapons", "weapons blocked", "ROC-AUC"), rows)
    )


def _given() -> tuple[lclip.LatentCLIP, Taesd, list[Picture]]:
    """The probe, its space's encoder, and the named drawings that it has not learnt from."""
    path = os.environ.get(PROBE)
    if not path or not Path(path).is_file():
        raise Skipped(f"there is no probe; {PROBE} names the file of a Latent-CLIP trained on drawings")
    try:
        pictures = [p for p in catalogue.load(cache_folder()) if p.named and p.kind == "drawing"]
        probe = lclip.load(path)
        encoder = load_taesd(probe.config.latent_space)
    except FileNotFoundError as missing:
        raise Skipped("there are no pictures; `make pictures` fetches them") from missing
    except TinyMissing as missing:
        raise Skipped(str(missing)) from missing
    return probe, encoder, [p for p in pictures if p.split != "train" or p.held_out]


def _said(picture: Picture) -> str:
    return " ".join((picture.name, *picture.keywords, *re.split(r"[/_]", picture.path))).lower()


def _encoded(
    encoder: Taesd, pictures: Sequence[Picture], side: int, sizes: Sequence[float], mirrored: bool
) -> tuple[Tensor, list[int]]:
    """Latents, and which picture each is of."""
    found, owners = [], []
    for number, picture in enumerate(pictures):
        for shown in _shown(picture, side, sizes, mirrored):
            found.append(encoder.encode(pixels(shown)))
            owners.append(number)
    return torch.cat(found), owners


def _shown(picture: Picture, side: int, sizes: Sequence[float], mirrored: bool) -> Iterator[Image.Image]:
    try:
        drawing = read_picture(cache_folder() / picture.path)
    except PictureError:
        return
    for size in sizes:
        fitted = ImageOps.contain(drawing, (round(size * side), round(size * side)), Image.Resampling.LANCZOS)
        page = _centred(fitted, side)
        yield page
        if mirrored:
            yield ImageOps.mirror(page)


def _centred(drawing: Image.Image, side: int) -> Image.Image:
    page = Image.new("RGB", (side, side), (255, 255, 255))
    page.paste(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    return page


def _row(
    judge: SafetyJudge, good: Tensor, bad: Tensor, owners: list[int], recall: bool
) -> tuple[str, str, str]:
    """Blocked of the harmless, of the weapons, and the area under the curve of the two."""
    limits = torch.tensor(judge.policy.thresholds, dtype=torch.float64)
    (p_good, p_bad) = (judge.probabilities(z) for z in (good, bad))
    blocked = int((p_good >= limits).any(1).sum())
    told = wilson(blocked, len(good)).percent()
    if not recall:
        return told, "", ""
    caught = bootstrap((p_bad >= limits).any(1).double().numpy(), np.asarray(owners)).percent()
    area = area_under_roc(p_good[:, 0].numpy(), p_bad[:, 0].numpy())
    return told, caught, f"{area:.3f}"
