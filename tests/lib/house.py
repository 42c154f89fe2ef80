"""Every import of the source, read without importing anything: in functions, under TYPE_CHECKING, by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

BY_NAME = {
    "lclip/__init__.py": ("lclip.mini",),
    "nodes/draw/__init__.py": ("nodes.draw.*",),
    "nodes/host/__init__.py": ("nodes.host.*",),
    "lclip/commands/__init__.py": ("lclip.commands.*",),
    "benchmarks/__main__.py": ("benchmarks.*",),
}
"""Files that import what a list of theirs names, and what those lists name."""

IMPORTERS = ("import_module", "__import__", "run_module")
UNKNOWN = "?"


@dataclass(frozen=True)
class Import:
    """One name that a file imports: `module` as written, dots resolved; `file` that it leads to, if ours."""

    source: str
    line: int
    module: str
    absolute: bool
    file: str | None

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.module}"


class House:
    """The source under a root: lclip/, nodes/, benchmarks/ and the root's own __init__.py."""

    def __init__(self, root: Path) -> None:
        found = [path for top in ("lclip", "nodes", "benchmarks") for path in (root / top).rglob("*.py")]
        found += [path for path in [root / "__init__.py"] if path.is_file()]
        self.texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(found)}
        self.trees = {name: ast.parse(text, name) for name, text in self.texts.items()}
        self.modules = {_module_of(name): name for name in self.texts}

    @cached_property
    def imports(self) -> list[Import]:
        return [found for name in self.trees for found in self._imports_of(name)]

    def _imports_of(self, name: str) -> Iterator[Import]:
        package = _package_of(name)
        others = _other_names(self.trees[name])
        for node in ast.walk(self.trees[name]):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield self._import(name, node, alias.name, True)
            elif isinstance(node, ast.ImportFrom):
                base = _resolved("." * node.level + (node.module or ""), package)
                for alias in node.names:
                    yield self._import(name, node, _joined(base, alias.name), not node.level)
            elif isinstance(node, ast.Call) and _imports_by_name(node, others):
                yield from self._called(name, node, package)

    def _called(self, name: str, call: ast.Call, package: list[str]) -> Iterator[Import]:
        """import_module and its like: a literal is read, anything else must stand in BY_NAME."""
        given = [*call.args, *(word.value for word in call.keywords if word.arg == "name")]
        first = given[0] if given else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            relative = first.value.startswith(".")
            yield self._import(name, call, _resolved(first.value, package), not relative)
            return
        for pattern in BY_NAME.get(name, (UNKNOWN,)):
            for module in self._matching(pattern, name):
                yield self._import(name, call, module, False)

    def _matching(self, pattern: str, name: str) -> list[str]:
        if not pattern.endswith(".*"):
            return [pattern]
        inside = [module for module in self.modules if module.startswith(pattern[:-1])]
        return [module for module in inside if self.modules[module] != name]

    def _import(self, name: str, node: ast.stmt | ast.expr, module: str, absolute: bool) -> Import:
        hosts = absolute and name.startswith("nodes/") and module.split(".")[0] == "nodes"
        return Import(name, node.lineno, module, absolute, None if hosts else self._file_of(module, absolute))

    def _file_of(self, module: str, absolute: bool) -> str | None:
        """The file of a module, or of the package whose attribute it is."""
        parent = module.rpartition(".")[0]
        if absolute and not parent:  # of the root's own __init__.py nothing is had by a plain name
            return self.modules.get(module) if module else None
        return self.modules.get(module) or self.modules.get(parent)

    @cached_property
    def arrows(self) -> dict[str, set[str]]:
        """File to the files that it imports."""
        arrows: dict[str, set[str]] = {name: set() for name in self.texts}
        for found in self.imports:
            if found.file is not None and found.file != found.source:
                arrows[found.source].add(found.file)
        return arrows

    @property
    def inner_imports(self) -> list[Import]:
        """Those that lead to a file of ours."""
        return [found for found in self.imports if found.file is not None]


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of two or more that reach one another."""
    reached = {start: _reached(arrows, start) for start in arrows}
    groups = {
        tuple(sorted({start, *(other for other in reached[start] if start in reached.get(other, ()))}))
        for start in arrows
    }
    return [list(group) for group in sorted(groups) if len(group) > 1]


def _reached(arrows: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = list(arrows[start])
    while left:
        here = left.pop()
        if here not in seen:
            seen.add(here)
            left += arrows.get(here, ())
    return seen


def _imports_by_name(call: ast.Call, others: set[str]) -> bool:
    """Whether this call imports the module that its first argument names."""
    return ast.unparse(call.func).rpartition(".")[2] in {*IMPORTERS, *others}


def _other_names(tree: ast.Module) -> set[str]:
    """What this file calls the importers, where it gives them names of its own."""
    return {
        alias.asname
        for node in ast.walk(tree)
        for alias in (node.names if isinstance(node, ast.ImportFrom) else ())
        if alias.name in IMPORTERS and alias.asname
    }


def _module_of(name: str) -> str:
    parts = Path(name).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package_of(name: str) -> list[str]:
    return list(Path(name).parts[:-1])


def _resolved(written: str, package: list[str]) -> str:
    """A module as written, with leading dots counted from the package."""
    rest = written.lstrip(".")
    level = len(written) - len(rest)
    if not level:
        return rest
    if level - 1 > len(package):
        return "outside the pack"
    return _joined(".".join(package[: len(package) - (level - 1)]), rest)


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)
