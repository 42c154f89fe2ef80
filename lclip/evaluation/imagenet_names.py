"""ImageNet's class names and prompt templates as open_clip lists them, read without importing open_clip."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

CLASSES, TEMPLATES = 1000, 80
SOURCE = "zero_shot_metadata.py"


@cache
def imagenet_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The 1000 class names, in the order of the classes, and the 80 templates of the CLIP paper, with "{}".

    Raises FileNotFoundError without the package, ValueError for lists of another form.
    """
    path = _file()
    lists = {
        target.id: node.value
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    try:
        names = tuple(ast.literal_eval(lists["IMAGENET_CLASSNAMES"]))
        written = lists["OPENAI_IMAGENET_TEMPLATES"]
        templates = tuple(map(_template, written.elts)) if isinstance(written, (ast.Tuple, ast.List)) else ()
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} does not list ImageNet's names as expected: {error}. Give --classes"
        ) from error
    if (len(names), len(templates)) != (CLASSES, TEMPLATES):
        raise ValueError(
            f"{path}: {len(names)} names, {len(templates)} templates; expected {CLASSES}, {TEMPLATES}"
        )
    return names, templates


def _template(node: ast.expr) -> str:
    """`lambda c: f"a photo of a {c}."` -> "a photo of a {}."."""
    if not isinstance(node, ast.Lambda) or not isinstance(node.body, ast.JoinedStr):
        raise ValueError(f"a template is {ast.unparse(node):.60}")
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.body.values)


def _file() -> Path:
    spec = importlib.util.find_spec("open_clip")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / SOURCE).is_file():
            return Path(folder) / SOURCE
    raise FileNotFoundError(
        "ImageNet's class names are read from the package open_clip_torch, which is not installed. Install "
        "the extra: pip install 'latent-clip[tokenizer]', or give --classes and --templates"
    )
