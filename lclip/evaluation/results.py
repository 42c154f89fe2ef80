"""What comes out of an evaluation: tables as JSON, CSV and a page with pictures that needs no other file."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..checkpoints.atomic import atomic_file
from ..statistics import Interval, for_json

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .3rem .8rem; text-align: right; }
th { border-bottom: 2px solid #888; } td:first-child, th:first-child { text-align: left; }
tr:nth-child(even) { background: #8881; } figure { display: inline-block; margin: .3rem; }
figure img { width: 8rem; height: 8rem; object-fit: cover; } figcaption { font-size: .8rem; width: 8rem; }
pre { background: #8881; overflow: auto; padding: .8rem; }
"""


@dataclass(frozen=True)
class Row:
    """A figure of ours, and the paper's for the same row."""

    what: str
    ours: Interval
    """A share, or a number."""
    paper: float | None = None
    """In percent; None where the paper has no such row."""
    source: str = ""
    """Where the paper has it."""
    share: bool = True
    """Whether ours is a share, to be shown in percent."""

    @property
    def text(self) -> str:
        """Ours with its interval, for people; the figure alone where there is none."""
        if not math.isfinite(self.ours.low):
            return f"{self.ours.value:.1%}".replace("%", " %") if self.share else f"{self.ours.value:.4f}"
        return self.ours.percent() if self.share else self.ours.text(digits=4)


@dataclass(frozen=True)
class Shown:
    """A picture on the page, as a PNG's bytes, and what is said below it."""

    png: bytes
    text: str


@dataclass(frozen=True)
class TaskResult:
    """What a task gives."""

    task: str
    title: str
    about: Mapping[str, Any]
    """Versions, hashes, seeds, space, size rule: all that the figures hang on."""
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    """What went wrong."""
    shown: Sequence[Shown] = ()
    paper: str = ""
    """What the figures of the paper are of, or why there are none."""
    remarks: Sequence[str] = ()
    """What is to be known beside the figures, where nothing went wrong."""

    def as_json(self) -> dict[str, Any]:
        """As the file of results holds it."""
        rows = [
            {
                "what": row.what,
                **dict(zip(("value", "low", "high"), for_json(row.ours.figures), strict=True)),
                "n": row.ours.n,
                "paper_percent": row.paper,
                "paper_source": row.source or None,
            }
            for row in self.rows
        ]
        return {
            "task": self.task,
            "title": self.title,
            "about": dict(self.about),
            "rows": rows,
            "notes": [*self.remarks, *self.notes],
            "paper": self.paper or None,
        }


def write_results(folder: Path, results: Sequence[TaskResult]) -> Path:
    """Write results.json, results.csv and index.html. Returns the page."""
    told = {"format": "latent-clip-evaluation", "version": 1, "tasks": [each.as_json() for each in results]}
    texts = {
        "results.json": json.dumps(told, indent=2, ensure_ascii=False) + "\n",
        "results.csv": _csv(results),
        "index.html": _page(results),
    }
    for name, text in texts.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / "index.html"


def _csv(results: Sequence[TaskResult]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "what", "value", "low", "high", "n", "paper_percent", "paper_source"])
    for each in results:
        for row in each.rows:
            figures = (f"{figure:.6g}" if math.isfinite(figure) else "" for figure in row.ours.figures)
            writer.writerow([each.task, row.what, *figures, row.ours.n, row.paper, row.source])
    return text.getvalue()


def _page(results: Sequence[TaskResult]) -> str:
    parts = "\n".join(map(_section, results))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>Latent-CLIP: evaluation</title>"
        f"<style>{STYLE}</style><body><h1>Latent-CLIP: evaluation</h1>\n{parts}</body></html>\n"
    )


def _section(result: TaskResult) -> str:
    papers = any(row.paper is not None for row in result.rows)
    head = "<th>ours, 95 % interval</th><th>n</th>" + ("<th>paper</th>" if papers else "")
    rows = "".join(
        f"<tr><td>{escape(row.what)}</td><td>{row.text}</td><td>{row.ours.n}</td>"
        + (f"<td>{_paper(row)}</td>" if papers else "")
        + "</tr>"
        for row in result.rows
    )
    said = [result.paper] if result.paper else []
    notes = "".join(f"<p>{escape(note)}</p>" for note in [*said, *result.remarks, *result.notes])
    about = escape(json.dumps(dict(result.about), indent=2, ensure_ascii=False))
    figures = "".join(map(_figure, result.shown))
    return (
        f'<section id="{escape(result.task)}"><h2>{escape(result.title)}</h2>'
        f"<table><tr><th></th>{head}</tr>{rows}</table>{notes}<div>{figures}</div>"
        f"<details><summary>How it was made</summary><pre>{about}</pre></details></section>"
    )


def _paper(row: Row) -> str:
    return "" if row.paper is None else f'<span title="{escape(row.source)}">{row.paper:g} %</span>'


def _figure(shown: Shown) -> str:
    data = f"data:image/png;base64,{base64.b64encode(shown.png).decode()}"
    text = escape(shown.text)
    return f'<figure><img src="{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'
