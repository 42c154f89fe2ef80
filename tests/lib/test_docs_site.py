"""The documentation's site: complete, no dead ends, true to the source, and nothing in it from elsewhere."""

import ast
import importlib.util
import json
import re
import runpy
from pathlib import Path

import pytest

import lclip

pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"
if not (SITE / "build.py").is_file():
    pytest.skip("this copy comes without the site", allow_module_level=True)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


@pytest.fixture(scope="module")
def site():
    return runpy.run_path(str(SITE / "build.py"))


@pytest.fixture(scope="module")
def pages(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return folder, site["assemble"](folder)["nav"]


def leaves(nav):
    for entry in nav:
        for value in entry.values():
            yield from leaves(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere(pages):
    folder, nav = pages
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")} == set(leaves(nav))
    for path in folder.rglob("*.md"):
        for target, _ in LINK.findall(path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(folder)} leads to {target}"


def test_every_node_has_a_page_with_what_its_schema_says(pages):
    folder, _ = pages
    told = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    for name, schema in told.items():
        page = (folder / "nodes" / f"{name}.md").read_text("utf-8")
        for socket in schema.get("inputs", {}).values():
            words = socket.get("tooltip", "").split()
            assert " ".join(words).replace("|", "\\|").replace("<", "&lt;") in page


def test_every_node_has_a_row_among_the_tasks_and_no_task_stands_there_twice():
    """In the page itself: the build lists nodes without a task below it, so that none is lost meanwhile."""
    source = (SITE / "pages" / "which-node.md").read_text("utf-8")
    rows = [row.split(" | ") for row in source.splitlines() if row.startswith("| ")][1:]
    named = [name for _, take, _ in rows for name in re.findall(r"\]\(nodes/(\w+)\.md\)", take)]
    nodes = set(json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8")))
    missing = sorted(nodes - set(named))
    assert not missing, f"docs/site/pages/which-node.md has no row for {missing}"
    assert set(named) <= nodes
    first = [re.findall(r"nodes/(\w+)\.md", take)[0] for _, take, _ in rows]
    twice = sorted({name for name in first if first.count(name) > 1})
    assert not twice, f"docs/site/pages/which-node.md has several rows for {twice}"


def test_every_workflow_is_in_the_gallery(pages):
    text = (pages[0] / "gallery.md").read_text("utf-8")
    for path in (ROOT / "workflows").glob("*.json"):
        assert (
            f"## {path.stem}\n" in text
            and (pages[0] / "workflows" / f"{path.stem.replace(' ', '-')}.json").exists()
        )


def test_every_public_name_is_in_the_reference(site, pages):
    names = [name for found in site["public_names"]().values() for name in found]
    assert {name.rpartition(".")[2] for name in names if ".diffusers." not in name} == set(lclip.__all__)
    reference = "".join(path.read_text("utf-8") for path in (pages[0] / "api").glob("*.md"))
    assert all(f"::: {name}\n" in reference for name in names)


def test_an_error_that_troubleshooting_names_is_one_of_ours():
    said = []
    for path in [*(ROOT / "lclip").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    headings = re.findall(r"^### `(.+)`$", (SITE / "pages" / "troubleshooting.md").read_text("utf-8"), re.M)
    assert len(headings) > 15
    for heading in headings:
        for part in filter(None, map(str.strip, heading.split("…"))):
            assert any(part in text for text in said), part


@pytest.mark.parametrize(
    "words",
    ["nothing is downloaded unasked", "the hub has no", "the space's own VAE", "is no entry of GenEval",
     "at least prompt and categories"],
)  # fmt: skip
def test_troubleshooting_has_a_row_for(words):
    text = (SITE / "pages" / "troubleshooting.md").read_text("utf-8")
    assert any(words in heading for heading in re.findall(r"^### (.+)$", text, re.M))


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason='the extra "docs" is not installed',
)
def test_the_site_is_built_and_asks_for_nothing_from_elsewhere(site, tmp_path):
    index = site["build"](tmp_path / "site")
    pages = sorted(index.parent.rglob("*.html"))
    assert len(pages) > 40
    asked = re.compile(
        r"""<(?:script|img|link(?=[^>]*stylesheet))[^>]*(?:src|href)=["']?(https?:[^"'>\s]+)"""
    )
    for path in pages:
        assert not asked.findall(path.read_text("utf-8")), path
    reference = (index.parent / "api" / "rewards.html").read_text("utf-8")
    assert "How well latents match a text" in reference and "lclip.rewards.rewards.TextReward" in reference
    styles = "".join(path.read_text("utf-8") for path in index.parent.rglob("*.css"))
    assert not re.findall(r"url\(https?:", styles)
