"""The documentation as a static site: `make docs`, or python docs/site/build.py [FOLDER].

Everything is put together from what is there already: the pages of docs/, the nodes' help pages with the
tables that their schemas give, the workflows with their pictures, the library's docstrings, and the results.
Nothing is fetched, and the pages ask for nothing from elsewhere.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PAGES = ("index", "which-node", "troubleshooting")
GUIDES = {
    "command-line": "The command line",
    "diffusers": "diffusers",
    "elsewhere": "Other programs",
    "evaluate": "Measured as papers do",
    "bias": "Shares, balance, bias",
    "safety": "Safety",
    "adapters": "Adapters and sizes",
    "training": "Training",
    "mini-world": "The mini world",
}
"""Pages of docs/ with their names in the navigation; one that is not here is listed under its own title."""
WINGS = {
    "checkpoints": "Loading and writing",
    "model": "The model",
    "latents": "Latents",
    "scoring": "Scores",
    "rewards": "Rewards",
    "reno": "ReNO and guidance",
    "choosing": "Choosing among many",
    "safety": "Safety",
    "adapters": "Adapters",
    "diffusers": "diffusers' pipelines",
    "data": "Files",
    "evaluation": "Evaluation",
}


@cache
def repository() -> str:
    """The address of the repository, as pyproject.toml has it."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    return re.findall(r'^Repository = "(.*)"$', text, re.MULTILINE)[0]


def assemble(folder: Path) -> dict[str, Any]:
    """Write all pages into a folder. Returns the navigation."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = _nodes(folder / "nodes")
    for name in PAGES:
        text = (HERE / "pages" / f"{name}.md").read_text("utf-8")
        _write(folder / f"{name}.md", text + (_more_nodes(text, nodes) if name == "which-node" else ""))
    guides = dict(_guides(folder))
    for picture in (ROOT / "docs").glob("*.jpg"):
        shutil.copy(picture, folder)
    _write(folder / "results.md", _results())
    _write(folder / "gallery.md", _gallery(folder, nodes))
    _write(folder / "changelog.md", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    return {
        "nav": [
            {"Start": "index.md"},
            {"Which node?": "which-node.md"},
            {"Gallery": "gallery.md"},
            {"Nodes": [{title: f"nodes/{name}.md"} for name, title in nodes.items()]},
            {"Guides": [{title: f"{name}.md"} for name, title in guides.items()]},
            {"Python": list(_api(folder / "api"))},
            {"Troubleshooting": "troubleshooting.md"},
            {"Figures": "results.md"},
            {"Changes": "changelog.md"},
        ]
    }


def _nodes(folder: Path) -> dict[str, str]:
    """A page for each node: its help, and every socket with what the schema says of it. -> title by id."""
    told = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    found = {}
    for page in sorted((ROOT / "web" / "docs").glob("*.md")):
        text = page.read_text("utf-8")
        schema = told.get(page.stem, {})
        found[page.stem] = schema.get("display_name") or text.splitlines()[0].lstrip("# ")
        _write(folder / page.name, f"{text.rstrip()}\n\n{_sockets(page.stem, schema)}")
    for picture in (ROOT / "web" / "docs").glob("*.jpg"):
        shutil.copy(picture, folder)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _sockets(name: str, schema: dict[str, Any]) -> str:
    parts = [f"## Every socket\nThe node's id is `{name}`.\n"]
    for title, key in (("Inputs", "inputs"), ("Outputs", "outputs")):
        rows = [
            f"| `{socket.get('name', place)}` | {_cell(socket.get('tooltip', ''))} |"
            for place, socket in schema.get(key, {}).items()
        ]
        if rows:
            parts.append("\n".join((f"| {title} | |", "|---|---|", *rows)))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _more_nodes(page: str, nodes: dict[str, str]) -> str:
    """The nodes that no task of the page names."""
    rest = [
        f"- [{title}](nodes/{name}.md)" for name, title in nodes.items() if f"nodes/{name}.md" not in page
    ]
    return "\n## More nodes\n" + "\n".join(rest) + "\n" if rest else ""


def _guides(folder: Path) -> Iterator[tuple[str, str]]:
    found = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
    for name in [
        *(name for name in GUIDES if name in found),
        *(name for name in found if name not in GUIDES),
    ]:
        text = found[name].replace("](../benchmarks/RESULTS.md", "](results.md")
        _write(folder / f"{name}.md", _outside(text))
        yield name, GUIDES.get(name) or text.splitlines()[0].lstrip("# ")


def _outside(text: str) -> str:
    """Links to files that are no pages lead to the repository."""
    return re.sub(r"\]\(\.\./([^)]+)\)", rf"]({repository()}/blob/main/\1)", text)


def _results() -> str:
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
    return re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)


def _gallery(folder: Path, nodes: dict[str, str]) -> str:
    """Every workflow with its picture, which its test made by running it, and the nodes in it."""
    (folder / "workflows").mkdir(exist_ok=True)
    parts = [(HERE / "pages" / "gallery.md").read_text("utf-8").rstrip()]
    for path in sorted((ROOT / "workflows").glob("*.json"), key=_mini_first):
        name = path.stem.replace(" ", "-")
        shutil.copy(path, folder / "workflows" / f"{name}.json")
        used = {node["type"] for node in json.loads(path.read_text("utf-8"))["nodes"]}
        ours = [f"[{title}](nodes/{node}.md)" for node, title in nodes.items() if node in used]
        parts.append(f"## {path.stem}\n")
        if path.with_suffix(".jpg").is_file():
            shutil.copy(path.with_suffix(".jpg"), folder / "workflows" / f"{name}.jpg")
            parts.append(f"![{path.stem}](workflows/{name}.jpg)\n")
        parts.append(
            f"{', '.join(ours)}. [The workflow](workflows/{name}.json), to drop on ComfyUI's canvas.\n"
        )
    return "\n".join(parts)


def _mini_first(path: Path) -> tuple[bool, str]:
    return not path.stem.startswith("Mini"), path.stem


def public_names() -> dict[str, list[str]]:
    """What the library offers, by wing: full names, as the front door and lclip.diffusers say."""
    found: dict[str, list[str]] = {}
    front = ast.parse((ROOT / "lclip" / "__init__.py").read_text("utf-8"))
    door = next(node for node in front.body if isinstance(node, ast.If)).body
    pipes = ast.parse((ROOT / "lclip" / "diffusers" / "__init__.py").read_text("utf-8")).body
    for prefix, lines in (("", door), ("diffusers.", pipes)):
        for line in lines:
            if isinstance(line, ast.ImportFrom) and line.level:
                home = f"{prefix}{line.module}"
                names = [f"lclip.{home}.{alias.name}" for alias in line.names]
                found.setdefault(home.split(".")[0], []).extend(names)
    return found


def _api(folder: Path) -> Iterator[dict[str, str]]:
    """A page for each wing, which mkdocstrings fills from the docstrings."""
    found = public_names()
    for wing in [*(w for w in WINGS if w in found), *(w for w in found if w not in WINGS)]:
        title = WINGS.get(wing, wing.capitalize())
        door = "lclip.diffusers" if wing == "diffusers" else "lclip"
        lines = [f"# {title}\n\nEach name is had from `{door}`.\n"]
        for name in found[wing]:
            lines.append(f"::: {name}\n")
        _write(folder / f"{wing}.md", "\n".join(lines))
        yield {title: f"api/{wing}.md"}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def build(folder: Path) -> Path:
    """Assemble in FOLDER/pages, build into FOLDER/html. Returns its first page. Raises RuntimeError."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = yaml.safe_load((HERE / "mkdocs.yml").read_text("utf-8"))
    settings |= assemble(folder / "pages")
    settings |= {"docs_dir": str(folder / "pages"), "site_dir": str(folder / "html")}
    for plugin in settings["plugins"]:
        if isinstance(plugin, dict) and "mkdocstrings" in plugin:
            plugin["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    _write(folder / "mkdocs.yml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "--strict",
        "-f",
        str(folder / "mkdocs.yml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"mkdocs: {done.stdout}{done.stderr}")
    return folder / "html" / "index.html"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    sys.stdout.write(f"{build(target.resolve())}\n")
