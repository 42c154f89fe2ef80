"""The map on the node in a real browser: a click and a key choose a cell, in both renderers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from test_browser import browser, page_of_host  # noqa: F401  # fixtures

FILE = Path(__file__).resolve().parents[2] / "workflows" / "Mini 10 Explore.json"
CELLS = 6
WIDGETS = """() => { const node = app.graph._nodes.find(node => node.type === 'LatentCLIP_Explore');
  return Object.fromEntries(node.widgets.map(widget => [widget.name, widget.value])); }"""
PLACE = "() => [...app.graph._nodes.find(node => node.type === 'LatentCLIP_Explore').pos]"
SAVED = "() => JSON.parse(JSON.stringify(app.graph.serialize()))"


@pytest.fixture(scope="module", params=["classic", "nodes-2.0"])
def renderer(request, page_of_host, host):  # noqa: F811
    """The page in one of the two renderers."""
    if request.param == "nodes-2.0" and not has_whole_nodes_2(page_of_host):
        pytest.skip("the Nodes 2.0 of this frontend has no widgets of HTML, not even text boxes")
    host.post("/settings", {"Comfy.VueNodes.Enabled": request.param == "nodes-2.0"})
    page_of_host.open()
    yield page_of_host
    host.post("/settings", {"Comfy.VueNodes.Enabled": False})


@pytest.fixture
def page(renderer):
    """The workflow, run once, so that the map is there."""
    renderer.tidy()
    renderer.drop(FILE)
    run(renderer)
    renderer.wait_for_pictures("The chosen cell")
    return renderer


def has_whole_nodes_2(canvas) -> bool:
    version = canvas.host.get("/system_stats")["system"]["comfyui_version"].lstrip("v")
    return tuple(map(int, version.split("."))) >= (0, 4)


def run(canvas):
    canvas.start()
    assert canvas.end() == ("execution_success", "")
    canvas.page.wait_for_function(
        "count => document.querySelectorAll('[role=gridcell]').length === count", arg=CELLS**2
    )
    canvas.settle()


def cells(canvas):
    return canvas.page.get_by_role("gridcell")


def chosen(canvas):
    return cells(canvas).evaluate_all("cells => cells.findIndex(cell => cell.ariaSelected === 'true')")


def widgets(canvas, *names):
    found = canvas.page.evaluate(WIDGETS)
    return [found[name] for name in names]


def sampled(canvas):
    """How often the server showed cells being rendered, from now on."""
    canvas.page.evaluate(
        "() => { window.sampled = 0; app.api.addEventListener('latent-clip.map', () => { sampled++; }); }"
    )
    return lambda: canvas.page.evaluate("window.sampled")


def test_a_click_and_a_key_choose_and_what_was_chosen_comes_out_and_stays(page):
    assert chosen(page) == 2 * CELLS + 2 and widgets(page, "column", "row") == [2, 2]
    before, place, count = page.pictures("The chosen cell")[0], page.page.evaluate(PLACE), sampled(page)
    cells(page).nth(5).click()
    assert chosen(page) == 5 and widgets(page, "column", "row") == [5, 0]
    assert page.page.evaluate(PLACE) == place, "the click moved the node"
    for key in ("ArrowDown", "ArrowLeft", "Enter"):
        page.page.keyboard.press(key)
    assert chosen(page) == CELLS + 4 and widgets(page, "column", "row") == [4, 1]
    assert page.page.evaluate(PLACE) == place, "the keys moved the node"
    run(page)
    assert count() == 0, "another cell sampled again"
    assert chosen(page) == CELLS + 4
    page.wait_for_pictures("The chosen cell")
    assert numpy.abs(page.pictures("The chosen cell")[0].astype(int) - before).max() > 20
    page.screenshot(f"explore chosen {'2.0' if page.page.locator('.lg-node').count() else 'classic'}")
    saved = page.page.evaluate(SAVED)
    page.page.evaluate("async saved => { app.graph.clear(); await app.loadGraphData(saved); }", saved)
    page.wait_for_workflow(saved)
    assert widgets(page, "column", "row") == [4, 1] and chosen(page) == CELLS + 4
    assert cells(page).count() == CELLS**2, "the last map stays with the workflow"
    assert not page.complaints


def test_the_heat_stays_shown_and_a_place_is_held(page):
    page.page.get_by_label("which text's score is shown").select_option("a blue ring")
    labels = cells(page).evaluate_all("cells => cells.map(cell => cell.ariaLabel)")
    scores = [float(label.split("a blue ring: ")[1].split(";")[0]) for label in labels]
    shown = page.page.locator("[role=gridcell] .score").all_inner_texts()
    assert [float(score) for score in shown] == pytest.approx(scores, abs=1e-3)
    assert page.page.locator("svg .contour").count() >= 1 and page.page.locator("svg .path").count() <= 1
    cells(page).nth(CELLS).click()
    page.page.get_by_role("button", name="hold this place").click()
    assert widgets(page, "elsewhere") == ["prompt 1-2 0, noise 1-2 0.2"]
    run(page)
    assert page.page.locator("[role=gridcell] .score").all_inner_texts() == shown
    assert not page.complaints


def test_the_widgets_move_the_mark_and_the_map_is_not_sent_to_the_server(page):
    page.page.evaluate(
        "() => { const own = app.graph._nodes.find(node => node.type === 'LatentCLIP_Explore').widgets"
        ".find(widget => widget.name === 'column'); own.value = 3; own.callback(3); }"
    )
    assert chosen(page) == 2 * CELLS + 3
    sent = page.page.evaluate("async () => (await app.graphToPrompt()).output")
    inputs = next(node["inputs"] for node in sent.values() if node["class_type"] == "LatentCLIP_Explore")
    assert inputs["column"] == 3 and "map" not in inputs and json.dumps(inputs)
