"""In a real browser: workflows are dropped and run, missing files are listed, help and templates show."""

from __future__ import annotations

import importlib.util
import json
import re
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from browser import MADE, NO_BROWSER, NO_DRIVER, Browser, Canvas, find_browser
from test_locale import CHINESE, report_for
from test_workflows import APPS, FILES, labels_of, require_its_nodes

ROOT = Path(__file__).resolve().parents[2]
MINI = [path for path in FILES if path.stem.startswith("Mini")]
RELEASED = [path for path in FILES if path not in MINI]
LOADERS = {"CheckpointLoaderSimple", "LatentCLIP_Load", "UNETLoader", "CLIPLoader", "VAELoader"}
MODEL_FILE = re.compile(r"[\w.-]*\w\.(?:safetensors|ckpt|pth?|bin)\b")
RENO = "LatentCLIP_ReNO"

# Per workflow: nodes of which each shows as many pictures, and pairs whose pictures must differ one by one.
SHOWN = {
    "Mini 1 Score and choose": {"Latent-CLIP Score": 1, "Select Best Latents": 1, "The chosen two": 2},
    "Mini 2 ReNO": {"ReNO KSampler": 1, "Before: the seed as it is": 2, "After: the best noise": 2},
    "Mini 3 Safety gate": {"Latent Safety Gate": 1, "Safe pictures": 5},
    "Mini 4 Guidance": {"Without guidance": 4, "With guidance": 4},
    "Mini 6 Race": {"Race KSampler": 1, "The best two of sixteen": 2},
    "Mini 8 Shares and balance": {"Balance Latents": 1, "Concept Shares": 1, "Balanced": 16},
    "Mini 7 Again until good": {"ReNO KSampler": 1, "Good enough": 1},
    "Mini 9 Slider": {"Concept Slider": 1, "From small to large": 7},
    "Mini 10 Explore": {"The chosen cell": 1},
    "Mini 11 Own taste": {"Select Best Latents": 1, "Latent-CLIP Classify": 1, "Chosen by taste": 4},
    "Mini 12 Another model's latents": {"By the trained adapter": 1, "By both VAEs": 1},
    "Mini 13 Guard": {"Calibrate Safety Policy": 1},
    "Mini 14 Custom sampling": {"Searched: the picture": 1, "Raced: the picture": 1, "Search Result": 1},
    "Mini 15 A varied batch": {"Without guidance": 4, "With guidance": 4},
    "Mini 16 Names that tell": {"Select Best Latents": 1, "Named by score": 3},
    "Mini 5 Heatmap": {"Latent-CLIP Heatmap": 1, "The pictures": 4, "Where it is, over a rough preview": 4},
}
DIFFER = {
    "Mini 2 ReNO": ("Before: the seed as it is", "After: the best noise"),
    "Mini 4 Guidance": ("Without guidance", "With guidance"),
}

SHORTER = {"Mini 12 Another model's latents": [("LatentCLIP_TrainAdapter", "steps", 40)]}
"""Widgets that take long as they are: the API runs that workflow as it is."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip(NO_BROWSER)
    if importlib.util.find_spec("playwright") is None:
        pytest.skip(NO_DRIVER)
    chromium = Browser(executable)
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def page_of_host(host, browser) -> Iterator[Canvas]:
    if not host.has_frontend:
        pytest.skip("this host has no frontend")
    canvas = Canvas(browser, host)
    yield canvas
    canvas.close()


@pytest.fixture
def canvas(page_of_host) -> Canvas:
    page_of_host.tidy()
    return page_of_host


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def each(paths: list[Path]):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def require_known_nodes(canvas: Canvas) -> None:
    """Every node is known to this host, and the page has not complained."""
    assert all(node["known"] for node in canvas.nodes()), canvas.nodes()
    assert not re.search("missing node", canvas.shown(), re.IGNORECASE)
    assert not canvas.complaints


def require_nodes_apart(canvas: Canvas) -> None:
    """No node covers another on the page, and each note is whole."""
    boxes = list(canvas.boxes().items())
    for index, (title, (left, top, right, bottom)) in enumerate(boxes):
        assert right - left > 220 and bottom - top > 50, (title, "is not drawn")
        for other, (x, y, far_x, far_y) in boxes[:index]:
            apart = max(left - far_x, x - right, top - far_y, y - bottom)
            assert apart > 0, (title, "covers", other, apart)
    assert not canvas.cut_notes()


@pytest.fixture
def nodes_2(canvas, checkout, newest) -> Iterator[bool]:
    """In the newest host nodes are drawn by Nodes 2.0 at last; elsewhere as ever."""
    yield checkout == newest and canvas.has_whole_nodes_2()
    canvas.render_by(nodes_2=False)


@each(MINI)
def test_a_mini_workflow_is_dropped_and_runs_to_the_end(canvas, path, checkout, outermost, nodes_2):
    """In hosts between the oldest and the newest the templates' test opens each, and the API's run it."""
    if checkout not in outermost:
        pytest.skip("the oldest and the newest host are enough")
    for renderer in (False, True)[: 1 + nodes_2]:
        canvas.render_by(renderer)
        canvas.drop(path)
        require_nodes_apart(canvas)
    require_known_nodes(canvas)
    assert not any(node["flagged"] for node in canvas.nodes())
    for node, widget, value in SHORTER.get(path.stem, ()):
        canvas.set_widget(node, widget, value)
    canvas.start()
    assert canvas.end() == ("execution_success", "")
    canvas.wait_for_pictures(*SHOWN[path.stem])
    canvas.command("Comfy.Canvas.FitView")
    canvas.settle()
    canvas.screenshot(path.stem)
    pictures = {title: canvas.pictures(title) for title in SHOWN[path.stem]}
    assert {title: len(found) for title, found in pictures.items()} == SHOWN[path.stem]
    for found in pictures.values():
        assert all(picture.std() > 5 for picture in found), "a picture of one colour"
        assert all((one != two).any() for one, two in zip(found, found[1:], strict=False))
    if path.stem in DIFFER:
        before, after = (pictures[title] for title in DIFFER[path.stem])
        for one, two in zip(before, after, strict=True):
            assert numpy.abs(one.astype(int) - two).max() > 10
    require_nodes_apart(canvas)
    assert not any(node["flagged"] for node in canvas.nodes()) and not canvas.complaints


def test_a_cached_run_shows_the_same_on_the_nodes(canvas):
    """Dropped again on a new page, nothing has to run, and the nodes are new."""
    path = next(path for path in MINI if "Score" in path.stem)
    for again in (False, True):
        if again:
            canvas.open()
        canvas.drop(path)
        assert not (again and any(node["pictures"] for node in canvas.nodes()))
        canvas.start()
        assert canvas.end() == ("execution_success", "")
    canvas.wait_for_pictures(*SHOWN[path.stem])


def test_what_a_run_said_last_is_not_said_in_another_workflow(canvas):
    """Nodes of two workflows have the same numbers: what is put back later would stand on a wrong one."""
    race, other = (next(path for path in MINI if name in path.stem) for name in ("Race", "Heatmap"))
    count = "() => { window.said = 0; app.api.addEventListener('progress_text', () => window.said++); }"
    for opened in (None, other):
        canvas.drop(race)
        canvas.set_widget("LatentCLIP_RaceKSampler", "seed", 1 + (opened is None))
        canvas.start()
        assert canvas.end() == ("execution_success", "")
        if opened is not None:
            canvas.drop(opened)
        canvas.page.evaluate(count)
        canvas.page.wait_for_timeout(4000)
        assert bool(canvas.page.evaluate("window.said")) == (opened is None)


@each(APPS)
def test_an_app_opens_as_one_and_shows_what_it_made(canvas, path):
    if not canvas.knows_apps():
        pytest.skip("this frontend knows no apps yet and opens the graph")
    canvas.drop(path)
    canvas.page.keyboard.press("Escape")  # the tour that the first app begins with
    for text in [path.stem.removesuffix(".app"), *labels_of(read(path))]:
        canvas.wait_for_text(text)
    made = f"({MADE})({len(read(path)['extra']['linearData']['outputs'])})"
    for attempt in range(3):
        # What comes out of the cache is over before a busy page knows of it, and its gallery stays empty.
        canvas.set_widget("KSampler", "seed", 1000 + attempt)
        canvas.start()
        assert canvas.end() == ("execution_success", "")
        if canvas.becomes(made, 60):
            break
        canvas.screenshot(f"{path.stem} missed")
    else:
        raise AssertionError(f"{path.stem} shows not all that it made")
    canvas.screenshot(path.stem)
    canvas.command("Comfy.ToggleLinear")
    canvas.settle()
    require_known_nodes(canvas)


@each(RELEASED)
def test_a_workflow_for_a_released_model_misses_its_files_and_nothing_else(canvas, host, path):
    require_its_nodes(host, path)
    models = [model for node in read(path)["nodes"] for model in node["properties"].get("models", [])]
    assert len(models) in (2, 4)
    canvas.drop(path)
    require_known_nodes(canvas)
    assert {node["type"] for node in canvas.nodes() if node["flagged"]} <= LOADERS
    listed = missing_models(canvas)
    canvas.screenshot(path.stem)
    assert set(MODEL_FILE.findall(listed)) == {model["name"] for model in models}
    assert all(model["directory"] in listed for model in models)


# How frontends ask before they show the panel: by what is missing, or by the number of errors.
ASK = re.compile("^(Show missing models|View details)$")


def missing_models(canvas: Canvas) -> str:
    """The text of the dialog, or of the panel that newer frontends have instead and ask about first."""
    ask = canvas.page.get_by_text(ASK).first
    ask.or_(canvas.dialogs()).first.wait_for()
    canvas.settle()
    if ask.count():
        ask.click()
        panel = canvas.page.get_by_test_id("missing-model-actions").locator("xpath=../..")
        panel.wait_for()
        return panel.inner_text()
    return canvas.dialogs().inner_text()


def has_own_templates(host) -> bool:
    try:
        return bool(host.get("/templates/index.json"))
    except (urllib.error.HTTPError, ValueError):
        return False


def test_the_templates_list_every_workflow_and_open_it(canvas, host):
    canvas.command("Comfy.BrowseTemplates")
    dialog = canvas.dialogs()
    pack = dialog.get_by_text("latent-clip", exact=True).first
    pack.wait_for()
    canvas.settle()
    if not dialog.get_by_text(FILES[0].stem, exact=True).count():  # shown already where no other pack has any
        pack.click()
    for path in [*FILES, *APPS]:
        name = dialog.get_by_text(path.stem, exact=True)
        for _ in range(30):  # long lists are filled while they are scrolled
            if name.count():
                break
            dialog.hover()
            canvas.page.mouse.wheel(0, 500)
            canvas.settle()
        name.first.wait_for()
    canvas.settle()
    canvas.screenshot("Templates")
    if dialog.locator(".p-progressspinner").count() and not has_own_templates(host):
        pytest.skip("listed; this frontend opens none without the host's own templates, which are missing")
    wanted = next(path for path in MINI if "Score" in path.stem)
    dialog.get_by_text(wanted.stem, exact=True).first.click()
    canvas.wait_for_workflow(read(wanted))
    assert all(node["known"] for node in canvas.nodes())  # the dialog may miss the host's own templates


def test_the_help_pane_shows_the_nodes_page_with_its_picture(canvas):
    canvas.drop(next(path for path in MINI if "Score" in path.stem))
    canvas.select("LatentCLIP_Score")
    canvas.page.get_by_test_id("info-button").click()
    canvas.wait_for_text("What can go wrong")
    page = (ROOT / "web" / "docs" / "LatentCLIP_Score.md").read_text(encoding="utf-8")
    first = page.split("\n\n")[1].replace("\n", " ").replace("`", "").replace("*", "")
    canvas.wait_for_text(first)
    canvas.page.wait_for_function(
        "() => [...document.querySelectorAll('img')].some(picture =>"
        " picture.src.includes('LatentCLIP_Score.jpg') && picture.naturalWidth)"
    )
    canvas.screenshot("Help")


def test_a_noise_search_is_cancelled_half_way_and_the_next_one_runs(canvas):
    canvas.drop(next(path for path in MINI if "ReNO" in path.stem))
    canvas.set_widget(RENO, "iterations", 10_000)  # a busy page hears of the first few late
    canvas.set_widget(RENO, "seed", 77)
    canvas.start()
    canvas.page.wait_for_function("window.steps >= 5")
    canvas.cancel()
    assert canvas.end()[0] == "execution_interrupted"
    assert 5 <= canvas.page.evaluate("window.steps") < 9000
    canvas.set_widget(RENO, "iterations", 4)
    canvas.start()
    assert canvas.end() == ("execution_success", "")
    canvas.wait_for_pictures(*SHOWN["Mini 2 ReNO"])
    assert not canvas.complaints


def test_in_chinese_nodes_are_named_in_chinese_and_their_reports_are(browser, page_of_host, host, new_graph):
    texts = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    name = texts["LatentCLIP_Score"]["display_name"]
    host.post("/settings", {"Comfy.Locale": "zh"})
    try:
        canvas = Canvas(browser, host)
        canvas.page.evaluate("app.graph.clear()")
        canvas.settle()
        canvas.place_by_search(name)
        canvas.settle()
        canvas.screenshot("Chinese")
        (node,) = canvas.nodes()
        assert (node["type"], node["title"]) == ("LatentCLIP_Score", name)
        client = canvas.page.evaluate("app.api.clientId")
        assert CHINESE in report_for(host, new_graph(), client, "a blue circle")
        canvas.close()
    finally:
        host.post("/settings", {"Comfy.Locale": "en"})
