"""`python -m lclip explore --mini`: the page in a real browser, and the command."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from browser import NO_BROWSER, NO_DRIVER, Browser, find_browser
from command_world import run

import lclip
from lclip.commands.explore import PROMPTS
from lclip.exploring.plan import axes_of
from lclip.mini.explore import corners_of, explore_world, pairs_of

RED, BLUE = "a red star on a white ground", "a blue ring on a white ground"
ODD = 'a <b>red</b> star </script> & "more"'
BOTH = ["--prompt", RED, "--prompt", BLUE, "--seeds", "7", "8", "9", "--cells", "4"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "map.html"
    assert run("explore", "--mini", *BOTH, "--out", path) == 0
    return path


@pytest.fixture(scope="module")
def browser():
    executable = find_browser()
    if executable is None:
        pytest.skip(NO_BROWSER)
    if importlib.util.find_spec("playwright") is None:
        pytest.skip(NO_DRIVER)
    chromium = Browser(executable)
    yield chromium
    chromium.close()


@pytest.fixture(params=["light", "dark"])
def opened(request, browser, page):
    """The page, and all that it asked for and complained of."""
    context = browser.chromium.new_context(
        viewport={"width": 900, "height": 1100}, color_scheme=request.param
    )
    view = context.new_page()
    view.asked, view.complaints = [], []
    view.on("request", lambda request: view.asked.append(request.url))
    view.on("pageerror", lambda error: view.complaints.append(str(error)))
    view.goto(page.as_uri())
    yield view
    assert not view.complaints
    assert [url for url in view.asked if not url.startswith("data:")] == [page.as_uri()]
    context.close()


def cells(view):
    return view.get_by_role("gridcell")


def chosen(view):
    return cells(view).evaluate_all("cells => cells.findIndex(cell => cell.ariaSelected === 'true')")


def map_of(world, axes, **settings):
    kinds = corners_of(world, [7, 8, 9], [RED, BLUE])
    return explore_world(world, kinds, [RED, BLUE], axes, **{"side": 4, **settings})


def test_every_cell_says_what_the_library_finds(opened, world):
    found = map_of(world, ("prompt 1-2", "noise 1-2"))
    labels = cells(opened).evaluate_all("cells => cells.map(cell => cell.ariaLabel)")
    assert len(labels) == 16
    for number, label in enumerate(labels):
        score = [float(re.search(re.escape(text) + r": (-?[\d.]+)", label)[1]) for text in (RED, BLUE)]
        np.testing.assert_allclose(score, found.scores.flatten(1)[:, number], atol=1e-4)
        assert f"column {number % 4}, row {number // 4}" in label and found.plan.told(number) in label


def test_a_cell_at_a_corner_is_what_the_world_makes_of_that_seed_and_prompt(opened, world):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(8))
    picture = world.decode(world.generate(BLUE, noise))[0].movedim(0, -1)
    shot = pixels(cells(opened).nth(15).screenshot())
    inner = shot[12:-12, 12:-12].mean((0, 1)) / 255  # without the frame around it
    edge = 12 / shot.shape[0] * 64
    wanted = picture[round(edge) : 64 - round(edge), round(edge) : 64 - round(edge)].mean((0, 1))
    np.testing.assert_allclose(inner, wanted.numpy(), atol=0.02)


def pixels(png):
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)


def test_a_click_chooses_and_the_way_up_and_the_contours_are_the_librarys(opened, world):
    found = map_of(world, ("prompt 1-2", "noise 1-2"))
    opened.get_by_label("which text's score is shown").select_option(BLUE)
    cells(opened).nth(8).click()
    assert chosen(opened) == 8 and "Chosen." in opened.get_by_role("status").inner_text()
    way = " ".join(f"{column},{row}" for row, column in found.path(1, 2, 0))
    assert points(opened, "path") == [way]
    lines = [[(float(x), float(y)) for x, y in line] for line in found.contours(1)]
    shown = [[tuple(map(float, p.split(","))) for p in line.split()] for line in points(opened, "contour")]
    assert len(shown) == len(lines) >= 1
    for one, other in zip(shown, lines, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    opened.get_by_label("contour").uncheck()
    opened.get_by_label("way up").uncheck()
    assert points(opened, "path") == points(opened, "contour") == []


def points(view, kind):
    return view.locator(f"svg .{kind}").evaluate_all(
        "lines => lines.map(line => line.getAttribute('points'))"
    )


def test_by_keyboard(opened):
    opened.get_by_label("Which two axes").focus()
    for _ in range(4):  # the choice of a text, two boxes, then the map
        opened.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowLeft", "End"):
        opened.keyboard.press(key)
    assert chosen(opened) == 0
    opened.keyboard.press("Enter")
    assert chosen(opened) == 7
    opened.keyboard.press("Control+Home")
    opened.keyboard.press("Space")
    assert chosen(opened) == 0
    opened.keyboard.press("Tab")  # the map is one stop
    assert opened.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_other_axes_are_walked_and_each_keeps_its_choice(opened, world):
    axes = opened.get_by_label("Which two axes")
    assert axes.locator("option").all_inner_texts() == [
        "prompt 1-2 and noise 1-2", "prompt 1-2 and noise 1-3", "noise 1-2 and noise 1-3"
    ]  # fmt: skip
    cells(opened).nth(6).click()
    axes.select_option("noise 1-2 and noise 1-3")
    found = map_of(world, ("noise 1-2", "noise 1-3"))
    assert f"{float(found.scores[0, 1, 1]):.4f}"[:5] in cells(opened).nth(5).get_attribute("aria-label")
    assert chosen(opened) == 0
    axes.select_option("prompt 1-2 and noise 1-2")
    assert chosen(opened) == 6


def test_words_stand_out_from_the_page(opened):
    """WCAG 2.2, 1.4.3: contrast of 4.5 and more."""
    opened.get_by_label("which text's score is shown").select_option(RED)
    for place in ("h1", ".soft >> nth=0", ".told", ".legend", "#axes", "li >> nth=0"):
        ink = opened.locator(place).evaluate("element => getComputedStyle(element).color")
        paper = opened.locator("body").evaluate("element => getComputedStyle(element).backgroundColor")
        light = sorted(luminance(colour) for colour in (ink, paper))
        assert (light[1] + 0.05) / (light[0] + 0.05) >= 4.5, place


def luminance(colour):
    values = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_odd_text_stays_text(browser, tmp_path):
    path = tmp_path / "odd.html"
    assert (
        run("explore", "--mini", "--prompt", RED, "--text", ODD, "--seeds", 1, 2, "--cells", 3, "--out", path)
        == 0
    )
    view = browser.chromium.new_page()
    view.goto(path.as_uri())
    assert cells(view).count() == 3  # two seeds: a row
    assert ODD in cells(view).nth(1).get_attribute("aria-label")
    assert view.locator("b").count() == 0
    view.close()


def test_without_scripts_there_are_the_pictures_and_the_table(browser, page, world):
    context = browser.chromium.new_context(java_script_enabled=False)
    view = context.new_page()
    view.goto(page.as_uri())
    picture = view.get_by_role("img", name="16 pictures in 4 rows, prompt 1-2 and noise 1-2")
    assert picture.is_visible()
    view.locator("summary").click()
    found = map_of(world, ("prompt 1-2", "noise 1-2"))
    row = view.get_by_role("row").filter(has_text=found.plan.told(9)).first.inner_text()
    assert f"{float(found.scores[0].flatten()[9]):.4f}" in row
    context.close()


def test_the_command_says_where_each_text_is_best(world, tmp_path, capsys):
    assert (
        run("explore", "--mini", *BOTH, "--axes", "prompt 1-2", "noise 1-2", "--out", tmp_path / "a.html")
        == 0
    )
    out = capsys.readouterr().out
    found = map_of(world, ("prompt 1-2", "noise 1-2"))
    best = found.plan.told(int(found.scores[1].argmax()))
    assert f"{BLUE}: best {float(found.scores[1].max()):.4f} at {best}" in out and "16 pictures" in out


def test_the_bare_command_shows_two_prompts(world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("explore", "--mini") == 0
    out, page = capsys.readouterr().out, (tmp_path / "explore.html").read_text("utf-8")
    assert len(PROMPTS) == 2 and all(f"{prompt}: best" in out and prompt in page for prompt in PROMPTS)
    kinds = corners_of(world, range(4), PROMPTS)
    for pair in pairs_of(axes_of(kinds)):
        found = explore_world(world, kinds, PROMPTS, pair)
        best = found.plan.told(int(found.scores[0].argmax()))
        assert f"{PROMPTS[0]}: best {float(found.scores[0].max()):.4f} at {best}" in out
    assert "108 pictures; written to explore.html" in out


def test_the_help_says_which_prompts_are_shown_by_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        run("explore", "--help")
    assert f"(default: {', '.join(PROMPTS)})" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", RED, "--seeds", 1], "one corner only"),
        (["--prompt", RED, "--seeds", 1, 2, 3, 4, 5], "5 corners; expected 1 to 4"),
        (["--prompt", RED, "--seeds", 1, 1], "corners 1 and 2 of the noise are equal"),
        (["--prompt", RED, "--prompt", RED], "corners 1 and 2 of the prompt are equal"),
        (["--prompt", RED, "--cells", 1], "1 cells a side"),
        (["--prompt", " "], "no text"),
        (["--prompt", RED, "--axes", "noise 1-2", "prompt 1-2"], "y axis is 'prompt 1-2'"),
    ],
)
def test_what_makes_no_map_is_refused_in_words(arguments, said, tmp_path, capsys):
    assert run("explore", "--mini", *arguments, "--out", tmp_path / "never.html") == 2
    assert said in capsys.readouterr().err and not (tmp_path / "never.html").exists()


def test_a_seed_that_no_generator_takes_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("explore", "--mini", "--prompt", RED, "--seeds", -1, 2, "--out", tmp_path / "never.html")
    assert "the seed is -1" in capsys.readouterr().err and not (tmp_path / "never.html").exists()


def test_pairs_of_axes():
    noise = [torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    axes = lclip.exploring.plan.axes_of([lclip.SphericalCorners("noise", noise)])
    assert pairs_of(axes) == [("noise 1-2", "noise 1-3")]
    assert pairs_of(axes[:1]) == [("noise 1-2", "none")]


def test_the_page_and_the_terminal_say_what_cannot_be_read_of_the_texts(tmp_path, page, capsys):
    out = tmp_path / "map.html"
    long = "a red star and a blue ring " * 20
    texts = ["--text", "a red zebra", "--text", long]
    assert run("explore", "--mini", *BOTH[:4], "--seeds", "7", "--cells", "2", *texts, "--out", out) == 0
    told = capsys.readouterr().err
    found = out.read_text(encoding="utf-8")
    for text in ("does not know the word zebra", "the end of a text is not read"):
        assert text in told and len(re.findall(rf'<p class="caution">[^<]*{text}', found)) == 1
    assert 'class="caution"' not in page.read_text(encoding="utf-8")
