"""On nodes in a real browser, in both renderers: the map to choose from, the curve, the guard's words."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy
import pytest
from PIL import Image
from test_browser import browser, page_of_host  # noqa: F401  # fixtures

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
FILE = WORKFLOWS / "Mini 10 Explore.json"
RENO, GUARD = "LatentCLIP_ReNO", "LatentCLIP_SafetyGuard"
METHODS = ("none", "auto", "latent2rgb", "taesd")
CELLS = 6
WIDGETS = """() => { const node = app.graph._nodes.find(node => node.type === 'LatentCLIP_Explore');
  return Object.fromEntries(node.widgets.map(widget => [widget.name, widget.value])); }"""
PLACE = "() => [...app.graph._nodes.find(node => node.type === 'LatentCLIP_Explore').pos]"
SAVED = "() => JSON.parse(JSON.stringify(app.graph.serialize()))"

# The pictures that an artist sees on the node.
SEEN = """type => {
  const node = app.graph._nodes.find(node => node.type === type);
  const drawn = document.querySelector(`.lg-node[data-node-id="${node.id}"]`);
  const pictures = drawn ? [...drawn.querySelectorAll('img')] : node.imgs;
  return (pictures || []).filter(each => each.naturalWidth).map(each => {
    const copy = document.createElement('canvas');
    [copy.width, copy.height] = [each.naturalWidth, each.naturalHeight];
    copy.getContext('2d').drawImage(each, 0, 0);
    return copy.toDataURL('image/png');
  });
}"""
MADE = "type => app.nodeOutputs[app.graph._nodes.find(node => node.type === type).id]?.images?.[0]?.filename"
# Where a text stands that is within the box of its node, and whether all of it is to be seen.
SAID = """([type, text]) => {
  const node = app.graph._nodes.find(node => node.type === type), {scale, offset} = app.canvas.ds;
  const page = document.querySelector('#graph-canvas').getBoundingClientRect();
  const [left, top] = [0, 1].map(i => (node.pos[i] + offset[i]) * scale + (i ? page.top : page.left));
  const [right, bottom] = [left + node.size[0] * scale, top + node.size[1] * scale];
  const holders = [...document.querySelectorAll('body *')].filter(each => each.checkVisibility()
    && [...each.childNodes].some(child => child.nodeType === 3 && child.textContent.includes(text)));
  return holders.map(each => {
    const box = each.getBoundingClientRect();
    const inside = box.left >= left - 2 && box.right <= right + 2 && box.top >= top - 2
      && box.bottom <= bottom + 2;
    let whole = true;
    for (let holder = each.parentElement; holder; holder = holder.parentElement) {
      const room = holder.getBoundingClientRect();
      whole &&= getComputedStyle(holder).overflow === 'visible' || box.bottom <= room.bottom + 2;
    }
    return {inside, whole, pixels: parseFloat(getComputedStyle(each).fontSize), words: each.innerText};
  });
}"""


@pytest.fixture(scope="module", params=["classic", "nodes-2.0"])
def renderer(request, page_of_host):  # noqa: F811
    """The page in one of the two renderers, as its menu switches them."""
    if request.param == "nodes-2.0" and not page_of_host.has_whole_nodes_2():
        pytest.skip("the Nodes 2.0 of this frontend has no widgets of HTML, not even text boxes")
    page_of_host.render_by(nodes_2=request.param == "nodes-2.0")
    yield page_of_host
    page_of_host.render_by(nodes_2=False)


@pytest.fixture
def page(renderer):
    """The workflow, run once, so that the map is there."""
    renderer.tidy()
    renderer.drop(FILE)
    run(renderer)
    renderer.wait_for_pictures("The chosen cell")
    return renderer


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


@pytest.fixture
def previews(renderer, host, request):
    """A switch for the host's live previews."""
    if host.frontend is not None and request.node.callspec.params["renderer"] == "nodes-2.0":
        pytest.skip("it takes previews back frame by frame, and a page without a GPU draws too few of them")
    yield lambda method: host.post("/probe/previews", {"method": method})
    host.post("/probe/previews", {"method": "none"})


def as_array(url: str) -> numpy.ndarray:
    data = base64.b64decode(url.partition(",")[2])
    return numpy.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_the_curve_stands_on_the_node_after_a_run_whatever_live_previews_there_were(renderer, host, previews):
    renderer.tidy()
    renderer.drop(WORKFLOWS / "Mini 2 ReNO.json")
    renderer.set_widget(RENO, "iterations", 3)
    for seed, method in enumerate(METHODS):
        previews(method)
        renderer.set_widget(RENO, "seed", 900 + seed)
        renderer.start()
        assert renderer.end() == ("execution_success", ""), method
        with Image.open(host.base / "temp" / renderer.page.evaluate(MADE, RENO)) as picture:
            chart = numpy.asarray(picture.convert("RGB")).astype(int)
        renderer.page.wait_for_timeout(1000)  # a preview that was taken back is gone after 0.4 s
        renderer.settle()
        seen = [as_array(url) for url in renderer.page.evaluate(SEEN, RENO)]
        assert [each.shape for each in seen] == [chart.shape], method
        assert numpy.abs(seen[0] - chart).mean() < 3, method  # of 255: the preview is a JPEG
    assert not renderer.complaints


def test_what_the_guard_found_is_read_on_it_after_the_run(renderer):
    renderer.tidy()
    renderer.drop(WORKFLOWS / "Mini 13 Guard.json")
    renderer.set_widget(GUARD, "on_unsafe", "stop")
    renderer.set_widget("EmptyLatentImage", "batch_size", 3)
    renderer.start()
    assert renderer.end() == ("execution_success", "")
    renderer.page.wait_for_timeout(3500)  # newer frontends take it off at the end, and it comes again
    renderer.settle()
    said = [each for each in renderer.page.evaluate(SAID, [GUARD, "last run:"]) if each["inside"]]
    renderer.screenshot("guard")
    assert said and all(each["whole"] and each["pixels"] >= 10 for each in said), said
    assert any("3 unsafe, left as grey" in each["words"] for each in said)
