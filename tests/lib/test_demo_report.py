"""The demo's page: self-contained, faithful to the numbers it was given, and safe against odd text."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lclip.mini.curves import reward_curve
from lclip.mini.report import channel_picture, heat_overlay, write_report
from lclip.mini.story import Contact, Cost, Figure, Found, Gated, Improvement, Story, Unseen
from lclip.statistics import wilson

ODD = 'a <b>bold</b> & "quoted" ring'


class _Page(HTMLParser):
    """Which elements are open at the end, every attribute that could load something, every picture."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.classes = [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset") and value]
        self.classes.append((tag, attributes.get("class", "")))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def story() -> Story:
    gated = [
        Gated("p", picture(), True, 0.01, 0.5, False, None, False, False),
        Gated("p", picture(), False, 0.98, 0.5, True, picture(), True, False),
        Gated("p", picture(), True, 0.2, 0.5, True, None, False, False),
    ]
    return Story(
        unseen=Unseen(ODD, np.zeros((4, 8, 8), np.float32), picture(), 0.5),
        contacts=[
            Contact(ODD, [picture(i) for i in range(4)], [0.9, 0.8, 0.1, -0.1], [True, False, True, False], 2)
        ],
        found=[Found("p", picture(), [(ODD, np.eye(8, dtype=np.float32))])],
        improvements=[
            Improvement(
                "p", picture(), picture(), {"shape": False}, {"shape": True}, [(0, picture())], [0, 1], [0, 0]
            )
        ],
        gated=gated,
        figures=[Figure("plain", wilson(30, 60)), Figure("better", wilson(45, 60))],
        cost=Cost(0.5, 2.0),
        iterations=50,
        seconds=12.0,
        machine="a machine",
        seed=3,
    )


@pytest.fixture(scope="module")
def page(story, tmp_path_factory) -> str:
    return write_report(story, tmp_path_factory.mktemp("report") / "new" / "index.html").read_text("utf-8")


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(page):
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert parser.sources and all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert "url(" not in page and "<script" not in page and "$" not in page


def test_every_picture_decodes(page):
    for encoded in re.findall(r"base64,([A-Za-z0-9+/=]+)", page):
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
            image.load()
            assert image.size in ((8, 8), (96, 96), (192, 192))


def test_prompts_are_escaped(page):
    assert "<b>bold</b>" not in page
    assert "a &lt;b&gt;bold&lt;/b&gt; &amp; &quot;quoted&quot; ring" in page


def test_as_many_are_framed_as_were_kept(page):
    assert page.count('class="shot kept"') == 2 and page.count('class="shot out"') == 2


def test_the_gate_counts_its_own_mistakes(page):
    assert "the oracle sees 2 with a skull; the gate let 1 of them" in " ".join(page.split())
    assert "blocked 0 without one" in page


def test_shares_are_drawn_as_wide_as_they_are(page):
    assert re.search(r'<b>50 %</b>.*?<i style="width:50.0%">', page, re.DOTALL)
    assert re.search(r'<b>75 %</b>.*?<i style="width:75.0%">', page, re.DOTALL)


def test_the_curve_marks_the_best_iteration():
    curve = reward_curve([0.0, 0.5, 1.0, 0.2])
    points = [
        tuple(map(float, point.split(","))) for point in re.search(r'points="([^"]+)"', curve)[1].split()
    ]
    marked = re.search(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"', curve)
    assert (float(marked[1]), float(marked[2])) == points[2]
    assert points[2][1] == min(y for _, y in points)


@pytest.mark.parametrize("series", [[0.3], [0.3, 0.3], [-1.0, 1.0]])
def test_a_curve_of_any_length_stays_inside_its_frame(series):
    curve = reward_curve(series, series)
    numbers = [float(y) for x, y in re.findall(r"([\d.-]+),([\d.-]+)", curve)]
    assert numbers and all(0 <= y <= 118 for y in numbers)


def test_signs_of_a_channel_have_their_own_colours():
    colours = channel_picture(np.array([[-2.2, 0.0, 2.2]]))[0]
    assert colours[0].argmax() == 2 and colours[2].argmax() == 0
    assert np.ptp(colours[1].astype(int)) < 20


def test_the_overlay_is_bright_where_the_map_is_high():
    heat = np.zeros((8, 8), np.float32)
    heat[0, 0] = 1.0
    overlay = heat_overlay(np.full((64, 64, 3), 200, np.uint8), heat)
    assert overlay[8:16, 8:16].mean() > overlay[-30:, -30:].mean() + 50
