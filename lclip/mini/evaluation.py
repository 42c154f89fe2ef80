"""The mini world's pictures as folders of classes and with captions: evaluation in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .drawing import place, render
from .scenes import COLOURS, SHAPES, Content, caption, random_content

PER_CLASS = 5
CLASSES = tuple(f"{colour} {shape}" for colour in COLOURS[:3] for shape in SHAPES[:4])
TEMPLATES = ("a {}", "a {} on a white ground", "a {} on a black ground")


def write_classes(folder: Path, seed: int = 0) -> Path:
    """Pictures of every class, a folder for each, and beside it the lists classes.txt and templates.txt."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name in CLASSES:
        colour, shape = name.split()
        (folder / "pictures" / name.replace(" ", "_")).mkdir(parents=True, exist_ok=True)
        for number in range(PER_CLASS):
            scene = place(
                Content("single", (shape,), (colour,), ("white", "black")[number % 2], "large"), rng
            )
            Image.fromarray(render(scene)).save(
                folder / "pictures" / name.replace(" ", "_") / f"{number}.png"
            )
    (folder / "classes.txt").write_text("\n".join(f"{n.replace(' ', '_')}\t{n}" for n in CLASSES), "utf-8")
    (folder / "templates.txt").write_text("\n".join(TEMPLATES), "utf-8")
    return folder


def write_captioned(folder: Path, number: int = 64, seed: int = 0) -> Path:
    """Held-out pictures, each with what it shows in a text beside it."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    (folder / "captioned").mkdir(parents=True, exist_ok=True)
    for index in range(number):
        content = random_content(rng, "dev")
        Image.fromarray(render(place(content, rng))).save(folder / "captioned" / f"{index:03}.png")
        (folder / "captioned" / f"{index:03}.txt").write_text(caption(content), "utf-8")
    return folder
