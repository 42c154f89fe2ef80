"""Documents and posters drawn here: pages of the packages' copyright texts, large words on colour."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PAGE, POSTER_PAGE = (1240, 1754), (1200, 1600)  # pixels; A4 at 150 dots per inch
INKS = [(0, 0, 0), (20, 20, 60), (60, 20, 20)]
PAPERS = [(255, 255, 255), (255, 255, 255), (250, 246, 235), (255, 240, 190), (205, 225, 255), (30, 30, 34)]
COLOURS = [
    (214, 40, 40),
    (0, 92, 185),
    (255, 200, 0),
    (20, 140, 80),
    (240, 240, 235),
    (25, 25, 28),
    (235, 110, 170),
]
LICENCE = "as the texts on them: the packages' own copyright files"


def draw_pages(cache: Path, number: int = 60) -> None:
    """Write `number` documents and as many posters, unless they are there. The same every time."""
    texts = [_words(path) for path in sorted((cache / "files").glob("*/usr/share/doc/*/copyright"))]
    texts = [words for words in texts if len(words) > 200]
    for kind, draw in (("documents", _document), ("posters", _poster)):
        folder = cache / "drawn" / kind
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(number if texts else 0):
            path = folder / f"{index:03d}.png"
            if not path.exists():
                rng = random.Random(f"{kind} {index}")
                draw(texts[index % len(texts)], rng).save(path)


def _words(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").split()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _document(words: list[str], rng: random.Random) -> Image.Image:
    """A page in one or two columns with a heading and now and then a table."""
    paper = rng.choice(PAPERS)
    ink = (235, 235, 235) if sum(paper) < 300 else rng.choice(INKS)
    page = Image.new("RGB", PAGE, paper)
    draw = ImageDraw.Draw(page)
    start, margin, size = rng.randrange(max(1, len(words) - 150)), rng.randint(70, 160), rng.randint(18, 34)
    draw.text((margin, margin), " ".join(words[start : start + 3])[:24], ink, _font(size * 2))
    columns = rng.choice([1, 1, 2])
    width = (PAGE[0] - margin * (columns + 1)) // columns
    words = words[start:] + words[:start]
    for column in range(columns):
        left, top = margin + column * (width + margin), margin + 4 * size
        if rng.random() < 0.3:
            top = _table(draw, (left, top, width), words, ink, size, rng)
        words = _column(draw, (left, top, width), words, ink, size, PAGE[1] - margin)
    return page


def _column(draw, box: tuple[int, int, int], words: list[str], ink, size: int, bottom: int) -> list[str]:
    """Lines of words down to the bottom. -> the words that are left."""
    font, (left, top, width) = _font(size), box
    while words and top < bottom:
        line = 1
        while line < len(words) and draw.textlength(" ".join(words[: line + 1]), font) < width:
            line += 1
        draw.text((left, top), " ".join(words[:line])[:120], ink, font)
        words, top = words[line:], top + int(size * 1.4)
    return words


def _table(draw, box: tuple[int, int, int], words: list[str], ink, size: int, rng: random.Random) -> int:
    left, top, width = box
    rows, columns, height = rng.randint(3, 8), rng.randint(2, 4), size * 2
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * width // columns, top + row * height
            draw.rectangle((x, y, x + width // columns, y + height), outline=ink)
            draw.text((x + 6, y + 4), words[(row * columns + column) % len(words)][:9], ink, _font(size))
    return top + (rows + 1) * height


def _poster(words: list[str], rng: random.Random) -> Image.Image:
    """Large shapes and a few large words on a plain, saturated ground."""
    ground, *inks = rng.sample(COLOURS, 4)
    page = Image.new("RGB", POSTER_PAGE, ground)
    draw = ImageDraw.Draw(page)
    width, height = POSTER_PAGE
    for ink in inks[: rng.randint(0, 3)]:
        side = rng.randint(200, 900)
        x, y = rng.randint(-200, width - 100), rng.randint(-200, height - 100)
        shape = rng.choice([draw.ellipse, draw.rectangle])
        shape((x, y, x + side, y + int(side * rng.uniform(0.4, 1.4))), fill=ink)
    long = [word.strip(".,:;()<>\"'") for word in words if 3 < len(word) < 12] or ["poster"]
    top = rng.randint(60, 400)
    for _ in range(rng.randint(1, 5)):
        size = rng.randint(60, 260)
        draw.text((rng.randint(40, 160), top), rng.choice(long).upper(), rng.choice(inks), _font(size))
        top += int(size * 1.3)
    return page
