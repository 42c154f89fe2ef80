"""Charts and contact sheets: what is drawn is all there, in any script, at any number of items."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from lclip.choosing.types import RaceCheck, RaceResult

ROOT = Path(__file__).resolve().parents[2]
PACK = "latent_clip_pack"


@pytest.fixture(scope="module")
def pack():
    """The drawing half of the nodes, which needs no host, loaded under a name of its own."""
    for name, folder in ((PACK, ROOT), (f"{PACK}.nodes", ROOT / "nodes"), (f"{PACK}.lclip", ROOT / "lclip")):
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return lambda part: importlib.import_module(f"{PACK}.nodes.draw.{part}")


def ink_in(image: torch.Tensor) -> numpy.ndarray:
    """Where something is drawn on the white paper. [H, W, 3] -> [H, W]"""
    return (image.numpy() < 0.6).any(-1)


def nothing_touches_the_edge(images: torch.Tensor) -> bool:
    drawn = [ink_in(image) for image in images]
    return not any(a[0].any() or a[-1].any() or a[:, 0].any() or a[:, -1].any() for a in drawn)


LABELS = [
    "cat",
    "a large red circle left of a small green ring on a black ground, seen from above in the morning",
    "红色的圆在白色的背景上红色的圆在白色的背景上红色的圆在白色的背景上",
    "кружок",
    "ñandú façade",
    "x" * 120,
    *(f"label number {number}" for number in range(14)),
]


def test_bars_show_twenty_labels_within_the_picture(pack):
    chances = torch.rand(3, len(LABELS), generator=torch.Generator().manual_seed(0)).softmax(1)
    images = pack("charts").probability_bars(LABELS, chances)
    assert images.shape[0] == 3 and images.shape[2] == 512 and images.dtype == torch.float32
    assert nothing_touches_the_edge(images)


def test_bars_are_as_long_as_the_probabilities(pack):
    charts = pack("charts")
    images = charts.probability_bars(["a", "b"], torch.tensor([[0.75, 0.25]]))
    blue = torch.tensor([0x00, 0x72, 0xB2]) / 255
    grey = torch.tensor([0x9D, 0xB4, 0xC6]) / 255
    lengths = [int(((images[0] - colour).abs() < 0.02).all(-1).sum(1).max()) for colour in (blue, grey)]
    assert lengths[0] / lengths[1] == pytest.approx(3, rel=0.02)


def test_a_hundred_labels_are_summed_up(pack):
    many = pack("charts").probability_bars([f"label {i}" for i in range(100)], torch.full((1, 100), 0.01))
    twenty = pack("charts").probability_bars([f"label {i}" for i in range(20)], torch.full((1, 20), 0.05))
    assert many.shape[1] - twenty.shape[1] == 30  # one line more


def test_lines_of_a_wrapped_text_fit_and_lose_nothing(pack):
    lettering = pack("lettering")
    for text in LABELS:
        lines = lettering.wrap_text(text, 200, 18, most=99)
        assert all(lettering.width_of(line, 18) <= 200 for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_cut_text_says_so_and_fits(pack):
    lettering = pack("lettering")
    for text in LABELS[1:3]:
        cut = lettering.fit_text(text, 120, 18)
        assert cut.endswith("…") and lettering.width_of(cut, 18) <= 120
    assert lettering.fit_text("cat", 120, 18) == "cat"


def test_letters_that_no_font_has_are_replaced_one_by_one(pack, monkeypatch):
    lettering = pack("lettering")
    monkeypatch.setattr(lettering, "FONT_FILES", ())
    drawn, _ = lettering.lettered("né 中\U0010fffd", 40)
    assert drawn in ("ne ??", "né ??")


def test_ticks_are_round_and_within_the_range(pack):
    ticks = pack("charts").ticks
    for low, high in ((0.2641, 0.3127), (-3.0, 17.0), (0, 49), (1e-5, 3e-5), (0.5, 0.5)):
        found = ticks(low, high, 6)
        assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
        if high > low:
            assert 3 <= len(found) <= 8
    assert ticks(0, 3, 6, whole=True) == [0, 1, 2, 3]


def test_dashes_cover_half_of_a_line_with_many_corners(pack):
    points = [(i * 1.3, 40 + 30 * numpy.sin(i / 3)) for i in range(200)]
    length = sum(numpy.hypot(b[0] - a[0], b[1] - a[1]) for a, b in zip(points, points[1:], strict=False))
    pieces = pack("charts").dashes(points, 9.0)
    drawn = sum(numpy.hypot(b[0] - a[0], b[1] - a[1]) for a, b in pieces)
    assert drawn / length == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("count", [1, 2, 5, 16, 40])
@pytest.mark.parametrize("size", [(8, 8), (16, 9), (9, 16), (128, 128)])
def test_sheets_take_any_number_of_items_of_any_shape(pack, count, size):
    previews = torch.rand(count, *size, 3, generator=torch.Generator().manual_seed(1))
    scores = torch.linspace(-0.1, 0.4, count)
    feedback = pack("sheets")
    for sheet in (
        feedback.score_sheet(previews, scores),
        feedback.pick_sheet(previews, scores, [count - 1]),
        feedback.label_sheet(previews, [LABELS[i % 5] for i in range(count)], [0.5] * count),
        feedback.heat_sheet(previews, LABELS[1]),
    ):
        assert sheet.shape[0] == 1 and sheet.shape[2] == 512 and nothing_touches_the_edge(sheet)


@pytest.mark.parametrize("count", [9, 16, 64])
def test_sheets_of_many_items_are_read_on_a_new_node(pack, monkeypatch, count):
    """A new node shows a picture within 270 x 220 pixels, and the smallest letters keep 8.5 of them."""
    drawn, sheets = [], pack("sheets")
    text = sheets.Pen.text
    monkeypatch.setattr(
        sheets.Pen,
        "text",
        lambda pen, place, said, size, *more: drawn.append(size) or text(pen, place, said, size, *more),
    )
    previews, scores = torch.rand(count, 8, 8, 3), torch.linspace(-0.1, 0.4, count)
    notes = ["a violent scene 0.9321"] * count
    for sheet in (
        sheets.score_sheet(previews, scores),
        sheets.pick_sheet(previews, scores, [0, count - 1]),
        sheets.label_sheet(previews, ["a black ground"] * count, [0.5] * count),
        sheets.gate_sheet([None] * count, notes, []),
    ):
        _, height, width, _ = sheet.shape
        assert min(drawn) * min(270 / width, 220 / height) >= 8.5


def kept_frames(sheet: torch.Tensor) -> int:
    """How many tiles have the frame of what is chosen: its blue, from left to right in one row of pixels."""
    blue = ((sheet[0] - torch.tensor([0x00, 0x72, 0xB2]) / 255).abs() < 0.02).all(-1)
    runs = blue.sum(1) > 100  # the upper and the lower edge of a frame are that long
    return int((runs[1:] & ~runs[:-1]).sum())


def test_what_is_kept_is_on_the_sheet_however_low_its_reward(pack):
    previews, rewards = torch.ones(40, 8, 8, 3), torch.linspace(0, 1, 40)
    assert kept_frames(pack("sheets").pick_sheet(previews, rewards, [3])) >= 2
    assert kept_frames(pack("sheets").pick_sheet(previews, rewards, [])) == 0


def test_the_best_item_is_framed(pack):
    previews = torch.ones(4, 8, 8, 3)
    sheet = pack("sheets").score_sheet(previews, torch.tensor([0.1, 0.4, 0.2, float("-inf")]))[0]
    blue = ((sheet - torch.tensor([0x00, 0x72, 0xB2]) / 255).abs() < 0.02).all(-1)
    rows, columns = blue.nonzero(as_tuple=True)
    assert columns.min() > 256 and rows.max() < sheet.shape[0] / 2  # the second of two columns, the first row


def test_a_blocked_item_is_not_shown(pack):
    """Magenta stands for what must not be seen: none of it is on the sheet, though the preview was given."""
    magenta = torch.tensor([1.0, 0.0, 1.0]).expand(8, 8, 3)
    white = torch.ones(8, 8, 3)
    for blocked in (magenta, None):
        sheet = pack("sheets").gate_sheet([white, blocked], ["skull 0.0001", "skull 0.9"], [0])[0]
        assert not ((sheet - magenta[0, 0]).abs() < 0.2).all(-1).any()
    shown = pack("sheets").gate_sheet([white, magenta], ["a", "b"], [0, 1])[0]
    assert ((shown - magenta[0, 0]).abs() < 0.2).all(-1).sum() > 5000


def test_a_remark_stands_below_the_verdicts_and_is_no_caution(pack, monkeypatch):
    sheets, said = pack("sheets"), []
    draw = sheets.draw_cautions
    monkeypatch.setattr(
        sheets, "draw_cautions", lambda pen, top, notes: said.append(notes) or draw(pen, top, notes)
    )
    plain = sheets.gate_sheet([None], ["skull 0.9"], [])
    told = sheets.gate_sheet([None], ["skull 0.9"], [], ["an odd one"], ["repaired: none; still blocked: 0"])
    assert said[1] == [["Caution: an odd one"], ["Note: repaired: none; still blocked: 0"]] and said[0] == []
    assert told.shape[1] > plain.shape[1] + 40


def test_heat_goes_from_dark_to_light(pack):
    colours = pack("charts").heat_colours(torch.linspace(0, 1, 50))
    luma = colours @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (luma.diff() > 0).all()


def test_the_palette_is_told_apart_by_people_who_see_no_red_or_no_green(pack):
    """Viénot, Brettel and Mollon 1999: what dichromats see, in linear RGB."""
    kinds = {
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    charts = pack("charts")
    linear = [(numpy.array(Image.new("RGB", (1, 1), c)).reshape(3) / 255) ** 2.2 for c in charts.LINES]
    for matrix in kinds.values():
        seen = [numpy.clip(numpy.array(matrix) @ colour, 0, 1) ** (1 / 2.2) for colour in linear]
        apart = [numpy.abs(a - b).max() for i, a in enumerate(seen) for b in seen[:i]]
        assert min(apart) > 0.1


def test_the_checks_of_a_race_are_json_with_null_for_what_is_no_number(pack):
    checks = [
        RaceCheck(0, 4, torch.tensor([[0.5, torch.nan, 2.0]]), torch.tensor([[True, False, True]])),
        RaceCheck(4, 4, torch.tensor([[torch.inf, torch.nan, 1.0]]), torch.tensor([[True, False, False]])),
    ]
    winner = torch.zeros(1, 4, 8, 8)
    result = RaceResult(winner, winner, torch.tensor([torch.inf]), [0], [5], checks, 6, 12)
    text = pack("races").checks_as_json(result)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(text, parse_constant=refuse) == [
        {"step": 0, "steps": 4, "rewards": [[0.5, None, 2.0]], "kept": [[True, False, True]]},
        {"step": 4, "steps": 4, "rewards": [[None, None, 1.0]], "kept": [[True, False, False]]},
    ]
