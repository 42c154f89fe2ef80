"""Whether a section of the results is older than the code that it measures: found by digests, not by hand.

A section keeps one digest for each part of the project that it measures. Comments, docstrings and layout do
not count: they change no figure.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READS = ("lclip/latents", "lclip/model", "lclip/scoring.py")
WORLD = (*READS, "lclip/mini")
SAFETY = (*WORLD, "lclip/safety")
RENO = (*WORLD, "lclip/reno", "lclip/rewards")
REAL = ("lclip/latents", "lclip/adapters", "benchmarks/real")
HOST = ("lclip/latents", "lclip/model", "lclip/reno", "lclip/rewards", "nodes")

MEASURED: Mapping[str, tuple[str, ...]] = {
    "oracle": ("lclip/mini",),
    "retrieval": WORLD,
    "unsafe": WORLD,
    "sizes": WORLD,
    "reno": RENO,
    "hacking": RENO,
    "guidance": RENO,
    "race": (*WORLD, "lclip/choosing", "lclip/rewards"),
    "variety": RENO,
    "shares": (*RENO, "lclip/choosing"),
    "sliders": (*RENO, "lclip/choosing"),
    "safety-detection": SAFETY,
    "safety-rates": (*SAFETY, "lclip/reno", "lclip/rewards"),
    "safety-savings": SAFETY,
    "safety-attack": (*SAFETY, "lclip/reno", "lclip/rewards"),
    "adapter": (*WORLD, "lclip/adapters", "lclip/reno"),
    "taste": (*WORLD, "lclip/rewards"),
    "adaptation": (*WORLD, "lclip/training"),
    "real-guards": ("lclip/latents", "benchmarks/real"),
    "real-weapons": (*READS, "lclip/safety", "benchmarks/real"),
    "real-probe": (*READS, "lclip/training", "benchmarks/real"),
    "real-sizes": REAL,
    "real-adapters": REAL,
    "bulk": (*READS, "lclip/bulk", "lclip/data"),
    "cost": READS,
    "overhead": READS,
    "files": ("lclip/checkpoints",),
    "import": ("lclip", "nodes", "__init__.py"),
    "reno-cost": (*READS, "lclip/reno", "lclip/rewards"),
    "full-size": HOST,
}

SECTION = re.compile(r"<!-- begin (?P<name>[\w-]+) -->\n.*?<!-- end (?P=name) -->", re.DOTALL)
RECORD = re.compile(r"^<!-- code: (.*) -->\n", re.MULTILINE)
MARK = re.compile(r"^\*Older than .*\*\n\n", re.MULTILINE)
DATE = re.compile(r"^\*\d{4}-\d\d-\d\d; .*\*\n", re.MULTILINE)


def record(name: str) -> str:
    """The line that a section keeps about the code it was measured with; empty where that is none of ours."""
    digests = _digests(_parts_of(name))
    return (
        f"<!-- code: {' '.join(f'{part}={digest}' for part, digest in digests.items())} -->\n"
        if digests
        else ""
    )


def marked(text: str) -> str:
    """The results with a line under each section that is older than its code, and under no other."""
    return SECTION.sub(lambda found: _marked(found["name"], found[0]), text)


def _marked(name: str, section: str) -> str:
    plain = MARK.sub("", section)
    if not (warning := _warning(name, plain)):
        return plain
    return DATE.sub(lambda found: f"{found[0]}\n*{warning}*\n", plain, count=1)


def _warning(name: str, section: str) -> str:
    """Which parts have changed since; empty if none."""
    now = _digests(_parts_of(name))
    kept = RECORD.search(section)
    then = dict(pair.split("=", 1) for pair in kept[1].split()) if kept else {}
    if now and not then:
        return "Older than any record of the code that it measures."
    changed = [part for part, digest in now.items() if then.get(part) != digest]
    return f"Older than what it measures: changed since in {', '.join(changed)}." if changed else ""


def _parts_of(name: str) -> tuple[str, ...]:
    return MEASURED.get(name, MEASURED.get(name.removesuffix("-cuda"), ()))


def _digests(parts: Iterable[str]) -> dict[str, str]:
    return {part: _digest(part) for part in parts}


@cache
def _digest(part: str) -> str:
    """Of all code, weights and policies of a part: 12 hex digits."""
    place, total = ROOT / part, hashlib.sha256()
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if _counts(path))
    for path in files:
        total.update(path.relative_to(ROOT).as_posix().encode())
        total.update(_content(path))
    return total.hexdigest()[:12]


def _counts(path: Path) -> bool:
    return path.suffix in (".py", ".safetensors", ".json") and "__pycache__" not in path.parts


def _content(path: Path) -> bytes:
    if path.suffix != ".py":
        return path.read_bytes()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)]
    return ast.dump(tree).encode()


def _is_text(line: ast.stmt) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )
