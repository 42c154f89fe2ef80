"""A reward curve as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 440, 118
LEFT, RIGHT, TOP, BOTTOM = 30, 112, 10, 20


def reward_curve(cosines: Sequence[float], watched: Sequence[float] = ()) -> str:
    """Cosine with the prompt per iteration; the best one is marked, the watched one is only a thin line."""
    values = [*cosines, *watched]
    low, high = min(values), max(values)
    margin = max(0.04, 0.08 * (high - low))
    low, high = low - margin, high + margin
    last = max(1, len(cosines) - 1)

    def x(index: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / last

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    def line(series: Sequence[float], kind: str, width: float) -> str:
        points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(series))
        stroke = f'fill="none" stroke-width="{width}" stroke-linejoin="round"'
        return f'<polyline class="{kind}" points="{points}" {stroke}/>'

    best = max(range(len(cosines)), key=lambda index: cosines[index])
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.1f}</text>'
        for tick in _ticks(low, high)
    ]
    parts += [
        f'<text x="{x(index):.1f}" y="{HEIGHT - 4}" text-anchor="middle">{index}</text>'
        for index in (0, last)
    ]
    if watched:
        parts.append(line(watched, "watch", 1.2))
    parts.append(line(cosines, "main", 2))
    parts.append(f'<circle class="dot" cx="{x(best):.1f}" cy="{y(cosines[best]):.1f}" r="4"/>')
    ends = [("main-t", "Latent-CLIP", y(cosines[-1]))]
    if watched:
        ends.append(("watch-t", "pixel CLIP, watched", y(watched[-1])))
        if abs(ends[0][2] - ends[1][2]) < 13:
            upper = 0 if ends[0][2] <= ends[1][2] else 1
            middle = (ends[0][2] + ends[1][2]) / 2
            ends = [
                (kind, text, middle + (-7 if index == upper else 7))
                for index, (kind, text, _) in enumerate(ends)
            ]
    parts += [
        f'<text class="{kind}" x="{WIDTH - RIGHT + 6}" y="{place + 4:.1f}">{text}</text>'
        for kind, text, place in ends
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="cosine with the prompt per iteration">'
        + "".join(parts)
        + "</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    step = 0.5 if high - low > 0.9 else 0.2 if high - low > 0.35 else 0.1
    first = -int(-low // step) if low > 0 else int(low / step)
    ticks = [round(index * step, 3) for index in range(first - 1, int(high / step) + 1)]
    return [tick for tick in ticks if low <= tick <= high]
