"""Values on a map read as heights: where they cross a level, and the steepest way up.

Places are (x, y) in cells, column and row, with whole numbers at the middle of a cell. Cells without a number
are holes: no line passes beside one, and no way leads there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Point = tuple[float, float]
Edge = tuple[tuple[int, int], tuple[int, int]]
CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))  # (row, column) around a square
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))


def contours(values: Tensor, level: float) -> list[list[Point]]:
    """Lines along which the values [rows, columns] are at the level, by marching squares; closed ones end
    where they begin.

    Between the middles of neighbouring cells values go evenly. Where a square is crossed twice, the mean of
    its four cells says which side is joined. A map of one row is crossed at points, each given as
    a line from the top of the row to its bottom.
    """
    _check(values)
    grid = values.tolist()
    if len(grid) == 1:
        return [[(x, -0.5), (x, 0.5)] for x in _crossings(grid[0], level)]
    pieces: list[tuple[Edge, Edge]] = []
    for row in range(len(grid) - 1):
        for column in range(len(grid[0]) - 1):
            pieces += _square(grid, row, column, level)
    return [[_on(grid, edge, level) for edge in line] for line in _joined(pieces)]


def uphill(values: Tensor) -> Tensor:
    """For each cell of [rows, columns] the number of the neighbour, of eight, up to which it is steepest; its
    own where none is higher. A neighbour across a corner is farther: the rise is divided by the way."""
    _check(values)
    grid = values.tolist()
    return torch.tensor(
        [[_steepest(grid, row, column) for column in range(len(grid[0]))] for row in range(len(grid))]
    )


def steepest_path(values: Tensor, row: int, column: int) -> list[tuple[int, int]]:
    """The cells (row, column) on the steepest way up from one of them to a peak, both included."""
    rows, columns = values.shape
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(
            f"the path starts at row {row}, column {column}; the map has {rows} x {columns} cells"
        )
    ahead = uphill(values).flatten().tolist()
    way = [row * columns + column]
    while ahead[way[-1]] != way[-1]:
        way.append(ahead[way[-1]])
    return [divmod(cell, columns) for cell in way]


def middle_level(values: Tensor) -> float:
    """Halfway between the lowest and the highest number; NaN where there is none."""
    known = values[torch.isfinite(values)]
    return float((known.min() + known.max()) / 2) if known.numel() else math.nan


def _check(values: Tensor) -> None:
    if values.ndim != 2 or not values.numel():
        raise ValueError(f"a relief has shape {tuple(values.shape)}; expected [rows, columns]")


def _crossings(row: Sequence[float], level: float) -> list[float]:
    found = []
    for column, (a, b) in enumerate(zip(row, row[1:], strict=False)):
        if math.isfinite(a) and math.isfinite(b) and (a >= level) != (b >= level):
            found.append(column + (level - a) / (b - a))
    return found


def _square(grid: list[list[float]], row: int, column: int, level: float) -> list[tuple[Edge, Edge]]:
    """Pairs of crossed edges in the square whose upper left is that cell."""
    cells = [(row + down, column + right) for down, right in CORNERS]
    heights = [grid[y][x] for y, x in cells]
    if not all(map(math.isfinite, heights)):
        return []
    above = [height >= level for height in heights]
    edges = [(min(a, b), max(a, b)) for a, b in zip(cells, [*cells[1:], cells[0]], strict=True)]
    crossed = [number for number in range(4) if above[number] != above[(number + 1) % 4]]
    if len(crossed) < 4:
        return [(edges[crossed[0]], edges[crossed[1]])] if crossed else []
    joined = sum(heights) / 4 >= level  # the two high cells, or the two low ones
    first = 0 if above[0] == joined else 3
    pairs = ((first, (first + 1) % 4), ((first + 2) % 4, (first + 3) % 4))
    return [(edges[a], edges[b]) for a, b in pairs]


def _on(grid: list[list[float]], edge: Edge, level: float) -> Point:
    (y, x), (far_y, far_x) = edge
    a, b = grid[y][x], grid[far_y][far_x]
    share = (level - a) / (b - a)
    return x + share * (far_x - x), y + share * (far_y - y)


def _joined(pieces: list[tuple[Edge, Edge]]) -> list[list[Edge]]:
    """Pieces with a common end as one line."""
    at: dict[Edge, list[tuple[Edge, Edge]]] = {}
    for piece in pieces:
        for end in piece:
            at.setdefault(end, []).append(piece)
    lines, used = [], set()
    ends = [end for end, there in at.items() if len(there) == 1]
    for start in [*ends, *at]:  # open lines from their ends, then the closed ones
        line = [start]
        while (piece := next((each for each in at[line[-1]] if each not in used), None)) is not None:
            used.add(piece)
            line.append(piece[1] if piece[0] == line[-1] else piece[0])
        if len(line) > 1:
            lines.append(line)
    return lines


def _steepest(grid: list[list[float]], row: int, column: int) -> int:
    here, columns = grid[row][column], len(grid[0])
    best, found = 0.0, row * columns + column
    for down, right in STEPS:
        y, x = row + down, column + right
        if 0 <= y < len(grid) and 0 <= x < columns and math.isfinite(grid[y][x]):
            rise = (grid[y][x] - here) / math.hypot(down, right)
            if rise > best:
                best, found = rise, y * columns + x
    return found
