"""What an artist reads about a node: its help page, and its texts in the browser's language."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import screens
from test_registration import inputs_of

ROOT = Path(__file__).resolve().parents[2]
DOCS, LOCALES = ROOT / "web" / "docs", ROOT / "locales"
LITERAL = re.compile(r"\{'(.)'\}")  # a sign that means something to the message format
MEANS_SOMETHING = re.compile(r"[{}@|]")
CONTROL = "control_after_generate"  # the widget that the frontend puts behind a seed


@pytest.fixture
def ours(host) -> dict[str, Any]:
    return {name: info for name, info in host.object_info.items() if name.startswith("LatentCLIP_")}


def test_every_node_has_a_help_page_that_names_each_input_and_shows_it_wired(ours):
    differ = sorted({path.stem for path in DOCS.glob("*.md")} ^ set(ours))
    assert not differ, f"each node has its page in web/docs, and no other; write or remove {differ}"
    for name, info in ours.items():
        page, title = page_of(name), f"# {info['display_name']}\n"
        assert page.startswith(title), f"{name}: the page does not begin with {title!r}"
        for socket, _ in inputs_of(info):
            assert f"`{socket}`" in page, f"{name}: the page does not name {socket}"
        assert "## What can go wrong" in page, f"{name}: the page has no '## What can go wrong'"
        pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
        assert pictures, f"{name}: the page shows no picture of it wired"
        gone = [picture for picture in pictures if not (DOCS / picture).is_file()]
        assert not gone, f"{name}: the page shows {gone}, which web/docs does not hold"


def test_make_screens_knows_where_each_node_is_shown():
    """By a workflow that is dropped and really holds it, or by hand; and the tables name no other node."""
    shown = screens.shown_by()
    assert {*shown, *screens.LEFT} == {path.stem for path in DOCS.glob("*.md")}
    assert not screens.LEFT & set(shown) and set(screens.LARGER) <= set(shown)
    for node, workflow in shown.items():
        assert workflow in screens.chosen([])
        assert node in {each["type"] for each in screens.read(workflow)["nodes"]}, f"{workflow} has no {node}"


def page_of(name: str) -> str:
    path = DOCS / f"{name}.md"
    assert path.is_file(), f"web/docs/{path.name} is missing: write the node's help page"
    return path.read_text(encoding="utf-8")


def test_every_node_has_its_row_in_the_readme(ours):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## The nodes\n")[2].partition("\n## ")[0]
    missing = [info["display_name"] for info in ours.values() if info["display_name"] not in table]
    assert not missing, f"the table 'The nodes' of README.md does not name {missing}"


def test_help_pages_name_no_input_that_is_gone(ours):
    for name, info in ours.items():
        page = page_of(name)
        known = {socket for socket, _ in inputs_of(info)}
        rows = re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)
        named = {socket for row in rows for socket in re.findall(r"`([a-z0-9_]+)`", row)}
        assert named <= known, f"{name}: {named - known}"


def test_the_host_serves_the_pages_and_their_pictures_which_are_small(host, ours):
    import urllib.request

    files = sorted(DOCS.glob("*"))
    size = sum(path.stat().st_size for path in files)
    assert size < 1_000_000, f"web/docs has {size} bytes; expected less than 1 MB: store smaller pictures"
    module = next(iter(ours.values()))["python_module"].split(".")[1]
    for path in (DOCS / "LatentCLIP_Score.md", DOCS / "LatentCLIP_Score.jpg"):
        url = f"http://127.0.0.1:{host.port}/extensions/{module}/docs/{path.name}"
        with urllib.request.urlopen(url, timeout=60) as reply:
            assert reply.read() == path.read_bytes()


def english(ours: dict[str, Any]) -> dict[str, Any]:
    """The English texts as the schema has them, in the format of the browser's messages."""
    return {name: texts_of(info) for name, info in sorted(ours.items())}


def texts_of(info: dict[str, Any]) -> dict[str, Any]:
    inputs: dict[str, dict[str, str]] = {}
    for socket, spec in inputs_of(info):
        inputs[socket] = {"name": socket, "tooltip": literal(spec[1]["tooltip"])}
        if spec[1].get(CONTROL, socket == "seed"):
            inputs[CONTROL] = {"name": "control after generate"}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": literal(info["description"]),
        "inputs": inputs,
        "outputs": {str(i): {"name": name, "tooltip": literal(tip)} for i, (name, tip) in enumerate(outputs)},
    }


def literal(text: str) -> str:
    return MEANS_SOMETHING.sub(lambda sign: "{'" + sign.group() + "'}", text)


def read(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def test_english_texts_are_those_of_the_nodes(ours):
    """UPDATE_LOCALES=1 writes them anew from the nodes; the other languages are written by hand."""
    if "UPDATE_LOCALES" in os.environ:
        text = json.dumps(english(ours), ensure_ascii=False, indent=2) + "\n"
        (LOCALES / "en" / "nodeDefs.json").write_text(text, encoding="utf-8")
    differ = different(english(ours), read("en"))
    assert not differ, f"locales/en/nodeDefs.json is not what the nodes say: UPDATE_LOCALES=1; {differ}"


def test_chinese_texts_cover_every_node_and_socket_and_nothing_else(ours):
    wanted, found = english(ours), read("zh")
    differ = different(dict.fromkeys(keys_of(wanted)), dict.fromkeys(keys_of(found)))
    assert not differ, f"locales/zh/nodeDefs.json has not the English file's keys: mend by hand; {differ}"
    for place, text in leaves(found):
        assert text.strip(), place
        if place[-1] in ("tooltip", "description"):
            assert re.search("[\u4e00-\u9fff]", text), f"{place} is not Chinese: {text}"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_signs_of_the_message_format_are_written_as_literals(language):
    for place, text in leaves(read(language)):
        assert not MEANS_SOMETHING.search(LITERAL.sub("", text)), f"{place}: {text}"


def different(wanted: dict[Any, Any], found: dict[Any, Any]) -> str:
    """Which keys are missing, too many, or hold something else; empty where nothing is."""
    keys = {
        "missing": [key for key in wanted if key not in found],
        "too many": [key for key in found if key not in wanted],
        "other": [key for key in wanted if key in found and found[key] != wanted[key]],
    }
    return "; ".join(f"{what}: {listed}" for what, listed in keys.items() if listed)


def leaves(texts: dict[str, Any], place: tuple[str, ...] = ()):
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from leaves(value, (*place, key))
        else:
            yield (*place, key), value


def keys_of(texts: dict[str, Any]):
    return sorted(place for place, _ in leaves(texts))


def test_the_host_hands_both_languages_to_the_browser(host):
    served = host.get("/i18n")
    for language in ("en", "zh"):
        assert served[language]["nodeDefs"]["LatentCLIP_Score"] == read(language)["LatentCLIP_Score"]
