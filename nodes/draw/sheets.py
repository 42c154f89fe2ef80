"""What a node shows on itself when it has run: its items as small pictures, each with what was found.

Pictures, because a node shows these by itself, and again when the host takes its result from the cache; a
text on a node would need a script. They are rough previews: nothing is decoded. Knows nothing of the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from . import charts
from .charts import BLUE, FAINT, INK, MARGIN, PAPER, RED, REST, WIDTH
from .lettering import fit_text, wrap_text
from .pen import Pen
from .words import drawn

ALL, FEW, GAP = 8, 6, 10
"""Of so many items a node shows all, of more so many: it shows a picture at first 270 wide and 220 high."""
# Of letters: a node shows the picture at half its size or less, and few columns leave room.
HEADING, LETTERS, LEADING = 28, {1: 28, 2: 28, 3: 24, 4: 20}, 6
LARGEST = 260  # pixels of a picture that stands alone
NOTE, MOST_NOTE_LINES = 20, 8  # letters of a caution, and how many lines it may take


@dataclass(frozen=True)
class Tile:
    """One item: its picture, or None for a blank, lines of text below, and how it is framed."""

    picture: Image.Image | None
    lines: tuple[str, ...]
    frame: str = FAINT
    thick: bool = False


def score_sheet(previews: Tensor, scores: Tensor, cautions: Sequence[str] = ()) -> Tensor:
    """Every item with its score, the best one framed. previews: [B, h, w, 3]; scores: [B]"""
    values = scores.tolist()
    best = max(range(len(values)), key=lambda index: _rank(values[index]))
    tiles = [
        Tile(picture, (f"{index}: {number(value)}",), *_frame(index == best))
        for index, (picture, value) in enumerate(zip(_shown(previews, values), values, strict=True))
    ]
    heading = drawn("score {score}", score=number(values[best]))
    if len(values) > 1:
        score, count = number(values[best]), len(values)
        heading = drawn("best score {score}: item {best} of {count}", score=score, best=best, count=count)
    return _sheet(heading, tiles, _by(values), cautions)


def label_sheet(
    previews: Tensor, labels: Sequence[str], probabilities: Sequence[float], cautions: Sequence[str] = ()
) -> Tensor:
    """Every item with its likeliest label. previews: [B, h, w, 3]"""
    pictures = _shown(previews, probabilities)
    tiles = [
        Tile(picture, (f"{index}: {number(share, '.1%')}", label))
        for index, (picture, label, share) in enumerate(zip(pictures, labels, probabilities, strict=True))
    ]
    return _sheet(drawn("likeliest labels of {count} items", count=len(tiles)), tiles, cautions=cautions)


def heat_sheet(
    overlays: Tensor, text: str, cautions: Sequence[str] = (), broken: Sequence[int] = ()
) -> Tensor:
    """Every item with the places of a text in colour. overlays: [B, h, w, 3]; broken: items without any."""
    values = [math.nan if index in broken else 0.0 for index in range(len(overlays))]
    tiles = [
        Tile(picture, (str(index) if picture else f"{index}: {number(math.nan)}",))
        for index, picture in enumerate(_shown(overlays, values))
    ]
    return _sheet(drawn("bright: {text}", text=text), tiles, cautions=cautions)


def pick_sheet(
    previews: Tensor,
    rewards: Tensor,
    kept: Sequence[int],
    cautions: Sequence[str] = (),
    most: int | None = None,
) -> Tensor:
    """Every item with its reward, the kept ones framed and numbered. most: items at all; None: ALL or FEW."""
    values = rewards.tolist()
    tiles = []
    for index, picture in enumerate(_shown(previews, values)):
        place = kept.index(index) + 1 if index in kept else None
        note = [] if place is None else [drawn("kept, no. {place}", place=place)]
        tiles.append(Tile(picture, (f"{index}: {number(values[index])}", *note), *_frame(place is not None)))
    heading = drawn("kept {kept} of {count} by reward", kept=len(kept), count=len(tiles))
    first = [*kept, *(index for index in _by(values) if index not in kept)]
    return _sheet(heading, tiles, first, cautions, most)


def gate_sheet(
    previews: Sequence[Tensor | None],
    notes: Sequence[str],
    safe: Sequence[int],
    cautions: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> Tensor:
    """Every item with its verdict. previews: per item [h, w, 3]; None for a blocked one, not shown.

    remarks: what is to be known and is no caution, as it is said.
    """
    tiles = []
    for index, (preview, note) in enumerate(zip(previews, notes, strict=True)):
        picture = None if preview is None or index not in safe else charts.as_pictures(preview[None])[0]
        word = f"{index}: {drawn('safe') if index in safe else drawn('BLOCKED')}"
        tiles.append(Tile(picture, (word, note), BLUE if index in safe else RED, thick=index not in safe))
    blocked = [index for index in range(len(tiles)) if index not in safe]
    heading = drawn("all {count} safe", count=len(tiles))
    if blocked:
        heading = drawn("{blocked} of {count} blocked", blocked=len(blocked), count=len(tiles))
    return _sheet(heading, tiles, [*blocked, *sorted(safe)], cautions, remarks=remarks)


def number(value: float, form: str = ".4f") -> str:
    """A number as people read it; NaN is written as such."""
    return "NaN" if math.isnan(value) else format(value, form)


def _shown(previews: Tensor, values: Sequence[float]) -> list[Image.Image | None]:
    """Pictures of the items; a blank where the value is NaN, for there is nothing to see."""
    pictures = charts.as_pictures(previews)
    return [None if math.isnan(value) else each for each, value in zip(pictures, values, strict=True)]


def _rank(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _by(values: Sequence[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda index: -_rank(values[index]))


def _frame(chosen: bool) -> tuple[str, bool]:
    return (BLUE, True) if chosen else (FAINT, False)


def _sheet(
    heading: str,
    tiles: Sequence[Tile],
    order: Sequence[int] | None = None,
    cautions: Sequence[str] = (),
    most: int | None = None,
    remarks: Sequence[str] = (),
) -> Tensor:
    """Tiles in rows; of many items the first in `order`, in the order of the batch. -> [1, H, W, 3]

    cautions: what to be careful of, said below the tiles, and remarks after them. most: items at all; None:
    ALL or FEW.
    """
    most = most or (ALL if len(tiles) <= ALL else FEW)
    shown = sorted((order or range(len(tiles)))[:most])
    columns = _columns(len(shown))
    width = (WIDTH - 2 * MARGIN - GAP * (columns - 1)) // columns
    side = min(width, LARGEST)
    letters = LETTERS[columns]
    texts = [_lines(tiles[index], width, letters) for index in shown]
    picture_height = max(_fitted(tiles[index].picture, side)[1] for index in shown)
    rows = [texts[start : start + columns] for start in range(0, len(texts), columns)]
    heights = [picture_height + 6 + (letters + LEADING) * max(map(len, row)) + GAP for row in rows]
    left = len(tiles) - len(shown)
    end = charts.TITLE + sum(heights) + (left > 0) * 32
    notes = [
        *caution_lines(cautions),
        *map(_lines_of, (drawn("Note: {text}", text=each) for each in remarks)),
    ]
    pen = Pen(WIDTH, end + caution_height(notes) + 4, PAPER)
    pen.text((MARGIN, 6), fit_text(heading, WIDTH - 2 * MARGIN, HEADING), HEADING, INK)
    for place, (index, lines) in enumerate(zip(shown, texts, strict=True)):
        row, column = divmod(place, columns)
        corner = MARGIN + (width + GAP) * column, charts.TITLE + sum(heights[:row])
        _tile(pen, corner, tiles[index], lines, letters, (width, side, picture_height))
    if left:
        pen.text(
            (WIDTH - MARGIN, charts.TITLE + sum(heights)),
            drawn("and {left} more", left=left),
            letters,
            INK,
            "ra",
        )
    draw_cautions(pen, end, notes)
    return charts.as_image([pen.picture()])


def _columns(count: int) -> int:
    """Two rows at most where four columns do: a sheet that is wider than high is shown larger."""
    return count if count <= 3 else min(4, math.ceil(count / 2))


def with_cautions(picture: Tensor, cautions: Sequence[str]) -> Tensor:
    """A chart [1, H, W, 3] as wide as a sheet, with cautions below it."""
    if not (notes := caution_lines(cautions)):
        return picture
    chart = charts.as_pictures(picture)[0]
    pen = Pen(WIDTH, chart.height + caution_height(notes) + 4, PAPER)
    pen.paste(chart, (0, 0), chart.size)
    draw_cautions(pen, chart.height, notes)
    return charts.as_image([pen.picture()])


def caution_sheet(cautions: Sequence[str]) -> Tensor:
    """Nothing but cautions, or that there is none, for a node without a picture. -> [1, H, W, 3]"""
    if not (notes := caution_lines(cautions)):
        return line_sheet(drawn("No caution any more."))
    pen = Pen(WIDTH, MARGIN + caution_height(notes) + 4, PAPER)
    draw_cautions(pen, MARGIN, notes)
    return charts.as_image([pen.picture()])


def line_sheet(text: str) -> Tensor:
    """One line of text, in the place of a picture that is no more. -> [1, H, W, 3]"""
    pen = Pen(WIDTH, MARGIN + NOTE + GAP + 4, PAPER)
    pen.text((MARGIN, MARGIN), text, NOTE, INK)
    return charts.as_image([pen.picture()])


def caution_lines(cautions: Sequence[str]) -> list[list[str]]:
    """Each caution broken into lines that fit beside its bar."""
    return [_lines_of(drawn("Caution: {text}", text=text)) for text in cautions]


def _lines_of(text: str) -> list[str]:
    return wrap_text(text, WIDTH - 2 * MARGIN - 16, NOTE, MOST_NOTE_LINES)


def caution_height(notes: Sequence[Sequence[str]]) -> int:
    return sum((NOTE + LEADING) * len(lines) + GAP for lines in notes)


def draw_cautions(pen: Pen, top: int, notes: Sequence[Sequence[str]]) -> None:
    """Every caution from there on, behind a bar that catches the eye."""
    for lines in notes:
        height = (NOTE + LEADING) * len(lines)
        pen.box((MARGIN, top), (MARGIN + 5, top + height - LEADING), RED)
        for place, text in enumerate(lines):
            pen.text((MARGIN + 16, top + (NOTE + LEADING) * place), text, NOTE, INK)
        top += height + GAP


def _lines(tile: Tile, width: int, letters: int) -> list[str]:
    return [line for text in tile.lines for line in wrap_text(text, width, letters, 3)]


def _fitted(picture: Image.Image | None, side: int) -> tuple[int, int]:
    """The size of a picture whose longer side is that long."""
    if picture is None:
        return side, side
    longer = max(picture.size)
    return max(1, round(side * picture.width / longer)), max(1, round(side * picture.height / longer))


def _tile(
    pen: Pen,
    corner: tuple[float, float],
    tile: Tile,
    lines: Sequence[str],
    letters: int,
    room: tuple[int, int, int],
) -> None:
    width, side, height = room
    size = _fitted(tile.picture, side) if tile.picture else (side, height)
    x, y = corner[0] + (width - size[0]) // 2, corner[1] + (height - size[1]) // 2
    far = x + size[0] - 1, y + size[1] - 1
    if tile.picture is None:
        pen.box((x, y), far, FAINT)
        pen.line([(x, y), far], REST, 2)
        pen.line([(x, far[1]), (far[0], y)], REST, 2)
    else:
        pen.paste(tile.picture, (x, y), size)
    pen.box((x, y), far, outline=tile.frame, width=4 if tile.thick else 2)
    for number, text in enumerate(lines):
        below = corner[1] + height + 6 + (letters + LEADING) * number
        pen.text((corner[0] + width / 2, below), text, letters, INK, "ma")
