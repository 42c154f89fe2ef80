"""Maps between corners: arcs against their definition, contours and ways uphill against sums done by hand."""

import json
import math

import pytest
import safety_worlds
import torch
from hypothesis import given
from hypothesis import strategies as st

import lclip
from lclip.exploring.blending import LinearCorners, SphericalCorners, linear_weights, slerp
from lclip.exploring.plan import Plan
from lclip.exploring.relief import contours, steepest_path, uphill

NAN = math.nan


def noise(number=4, seed=0, shape=(4, 8, 8)):
    return list(torch.randn(number, *shape, generator=torch.Generator().manual_seed(seed)))


def angle(a, b):
    cosine = (a.double().flatten() @ b.double().flatten()) / (a.double().norm() * b.double().norm())
    return math.acos(max(-1.0, min(1.0, float(cosine))))


@given(t=st.floats(0, 1), seed=st.integers(0, 50))
def test_an_arc_turns_evenly_in_the_plane_of_its_ends_and_keeps_the_length(t, seed):
    a, b = noise(2, seed)
    c, whole = slerp(a, b, t), angle(a, b)
    assert angle(a, c) == pytest.approx(t * whole, abs=1e-3)
    assert angle(c, b) == pytest.approx((1 - t) * whole, abs=1e-3)
    assert float(c.norm()) == pytest.approx((1 - t) * float(a.norm()) + t * float(b.norm()), rel=1e-4)


def test_an_arc_by_hand():
    east, north = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    torch.testing.assert_close(slerp(east, north, 1 / 3), torch.tensor([3**0.5 / 2, 0.5]) * (2 + 2 / 3))
    torch.testing.assert_close(slerp(east, 3 * east, 0.5), torch.tensor([4.0, 0.0]))
    assert torch.equal(slerp(east, north, 0.0), east) and torch.equal(slerp(east, north, 1.0), north)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [([1.0, 0], [-2.0, 0], "opposite"), ([1.0, 0], [0, 0], "zeros"), ([1.0, 0], [1.0, 0, 0], "shapes")],
)
def test_what_has_no_arc_is_refused(a, b, said):
    with pytest.raises(ValueError, match=said):
        slerp(torch.tensor(a), torch.tensor(b).float(), 0.5)


@pytest.mark.parametrize("kind", [SphericalCorners, LinearCorners])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_corners_of_the_map_are_the_corners(kind, number):
    items = noise(number)
    corners = kind("noise", items)
    for item, place in zip(items, ((0, 0), (1, 0), (0, 1), (1, 1)), strict=False):
        torch.testing.assert_close(corners.at(*place), item, atol=1e-6, rtol=0)


@given(u=st.floats(0, 1), v=st.floats(0, 1))
def test_what_is_between_noises_is_as_long_as_noise(u, v):
    items = noise(4, shape=(4, 32, 32))
    for number in (2, 3, 4):
        assert float(SphericalCorners("noise", items[:number]).at(u, v).norm()) == pytest.approx(64, rel=0.02)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_linear_ways_are_bilinear_and_of_three_a_plane(number):
    weights = linear_weights(number, 0.25, 0.5)
    wanted = {1: [1], 2: [0.75, 0.25], 3: [0.25, 0.25, 0.5], 4: [0.375, 0.125, 0.375, 0.125]}
    assert weights == wanted[number]
    items = noise(number)
    torch.testing.assert_close(
        LinearCorners("prompt", items).at(0.25, 0.5),
        sum(w * item for w, item in zip(weights, items, strict=True)),
    )
    assert linear_weights(3, 1, 1) == [-1, 1, 1]


@pytest.mark.parametrize("kind", [SphericalCorners, LinearCorners])
def test_corners_that_span_nothing_are_refused(kind):
    a, b, c, d = noise(4)
    for items, said in (
        ([], "0 corners"),
        ([a, b, c, d, a + 1], "5 corners; expected 1 to 4"),
        ([a, b[:, :4]], "corner 2 of the noise has shape .* expected the same"),
        ([a, b, a.clone()], "corners 1 and 3 of the noise are equal"),
        ([a, torch.full_like(a, NAN)], "corner 2 of the noise holds NaN"),
    ):
        with pytest.raises(ValueError, match=said):
            kind("noise", items)


def test_noise_of_zeros_is_refused_by_name():
    with pytest.raises(ValueError, match="zero everywhere"):
        SphericalCorners("noise", [*noise(1), torch.zeros(4, 8, 8)])


def test_two_axes_are_shown_and_the_others_stand_where_they_are_told_to():
    kinds = [SphericalCorners("noise", noise(4)), LinearCorners("prompt", noise(2, 1, (3, 5)), [1, 3])]
    plan = Plan.of(kinds, 5, x="prompt 1-3", elsewhere="noise 1-3 0.5")
    assert [axis.name for axis in plan.axes] == ["noise 1-2", "noise 1-3", "prompt 1-3"]
    assert (plan.x.name, plan.y.name, plan.rows, plan.columns, len(plan)) == (
        "prompt 1-3",
        "noise 1-2",
        5,
        5,
        25,
    )
    assert plan.place(5 * 3 + 1) == {"noise 1-2": 0.75, "noise 1-3": 0.5, "prompt 1-3": 0.25}
    cell = plan.blended(kinds, 16)
    assert torch.equal(cell["noise"], kinds[0].at(0.75, 0.5))
    assert torch.equal(cell["prompt"], kinds[1].at(0.25, 0.0))
    assert Plan.of(kinds, 5, x="prompt 1-3", elsewhere=plan.told(16)) == plan  # shown axes do not count
    again = Plan.of(kinds, 2, "noise 1-2", "noise 1-3", elsewhere=plan.told(16))  # walk on from that cell
    assert again.place(0) == {"noise 1-2": 0, "noise 1-3": 0, "prompt 1-3": 0.25}


def test_one_axis_makes_a_row():
    plan = Plan.of([SphericalCorners("noise", noise(2))], 4)
    assert (plan.rows, plan.columns, plan.y) == (1, 4, None)
    assert [plan.place(cell)["noise 1-2"] for cell in range(4)] == [0, 1 / 3, 2 / 3, 1]
    assert Plan.of([SphericalCorners("noise", noise(4))], 4, y="none").rows == 1


@pytest.mark.parametrize(
    ("number", "settings", "said"),
    [
        (1, {}, "one corner only"),
        (4, {"side": 1}, "1 cells a side; expected 2 to 32"),
        (4, {"side": 33}, "33 cells a side"),
        (2, {"x": "noise 1-3"}, "x axis is 'noise 1-3'.*expected noise 1-2"),
        (2, {"x": "none"}, "x axis is 'none'"),
        (2, {"y": "noise 1-2"}, "the only axis is noise 1-2"),
        (4, {"x": "noise 1-2", "y": "noise 1-2"}, "x and y are both noise 1-2"),
        (4, {"elsewhere": "noise 1-2 2"}, "from 0 to 1"),
        (4, {"elsewhere": "noise 1-2 0.0.1"}, "from 0 to 1"),
        (4, {"elsewhere": "mood 1-2 0.5"}, "The axes are noise 1-2, noise 1-3"),
    ],
)
def test_a_plan_that_makes_no_map_is_refused(number, settings, said):
    with pytest.raises(ValueError, match=said):
        Plan.of([SphericalCorners("noise", noise(number))], **{"side": 4, **settings})


def table(text):
    return torch.tensor([[float(value) for value in row.split()] for row in text.strip().splitlines()])


def test_a_contour_by_hand():
    """A slope from 0 to 4: the level 1 is crossed a quarter of the way, in every row."""
    (line,) = contours(table("0 4\n0 4\n0 4"), 1.0)
    assert sorted(line, key=lambda point: point[1]) == [(0.25, 0), (0.25, 1), (0.25, 2)]


def test_a_peak_has_a_closed_contour():
    (line,) = contours(table("0 0 0\n0 4 0\n0 0 0"), 3.0)
    assert line[0] == line[-1] and set(line) == {(1, 0.75), (1.25, 1), (1, 1.25), (0.75, 1)}


@pytest.mark.parametrize(
    ("values", "cut"),
    [  # the cells that are cut off from their like: each line passes beside one of them
        ("4 0\n0 4", {((0.5, 0), (1, 0.5)), ((0, 0.5), (0.5, 1))}),
        ("4 0\n0 3", {((0.5, 0), (0, 0.5)), ((1, 2 / 3), (2 / 3, 1))}),
        ("0 4\n4 0", {((0.5, 0), (0, 0.5)), ((1, 0.5), (0.5, 1))}),
        ("0 3\n4 0", {((1 - 1 / 3, 0), (1, 1 / 3)), ((0, 0.5), (0.5, 1))}),
    ],
)
def test_a_saddle_is_joined_by_the_mean_of_its_cells(values, cut):
    found = {
        tuple(sorted((round(x, 6), round(y, 6)) for x, y in line)) for line in contours(table(values), 2.0)
    }
    assert found == {tuple(sorted((round(x, 6), round(y, 6)) for x, y in line)) for line in cut}


def test_no_contour_passes_beside_a_hole_and_none_is_where_nothing_is_crossed():
    assert contours(table("0 4 0\n0 nan 0"), 2.0) == []
    assert contours(table("0 1\n1 0"), 2.0) == [] == contours(table("3 3\n3 3"), 3.0)
    assert contours(table("0 4 0"), 1.0) == [[(0.25, -0.5), (0.25, 0.5)], [(1.75, -0.5), (1.75, 0.5)]]


@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=2, max_size=5))
def test_every_contour_ends_at_the_border_or_where_it_began_and_lies_at_the_level(rows):
    values = torch.tensor(rows, dtype=torch.float64)
    for line in contours(values, 0.1):
        for x, y in line:
            left, top = min(int(x), 2), min(int(y), len(rows) - 2)
            (a, b), (c, d) = values[top : top + 2, left : left + 2].tolist()
            u, v = x - left, y - top
            height = (a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v
            assert height == pytest.approx(0.1, abs=1e-6)
        ends_outside = all(x in (0, 3) or y in (0, len(rows) - 1) for x, y in (line[0], line[-1]))
        assert line[0] == line[-1] or ends_outside


def test_the_steepest_way_by_hand():
    values = table("""
        0 1 2
        0 3 0
        5 0 9""")
    # From (0, 0): +1 to the right, 3 / 1.41 across. From the middle: 2 / 1.41 to the 5, 6 / 1.41 to the 9.
    assert steepest_path(values, 0, 0) == [(0, 0), (1, 1), (2, 2)]
    assert steepest_path(values, 1, 0) == [(1, 0), (2, 0)]  # +5 straight down beats +3 and +1 / 1.41
    assert steepest_path(values, 2, 2) == [(2, 2)]
    assert uphill(values).tolist() == [[4, 4, 4], [6, 8, 8], [6, 8, 8]]


def test_a_straight_step_beats_an_equal_rise_across():
    assert steepest_path(table("0 1\n0 1.2"), 0, 0) == [(0, 0), (0, 1), (1, 1)]


def test_ways_end_on_plateaus_and_never_enter_holes():
    assert steepest_path(table("1 1\n1 1"), 0, 1) == [(0, 1)]
    assert steepest_path(table("0 nan 9"), 0, 0) == [(0, 0)]
    assert steepest_path(table("nan 9"), 0, 0) == [(0, 0)]
    with pytest.raises(ValueError, match="row 3, column 0"):
        steepest_path(table("1 2"), 3, 0)


MODEL = safety_worlds.tiny_clip()


def walk(**settings):
    kinds = [SphericalCorners("noise", noise(4))]
    seen = []

    def render(cells):
        seen.append(len(cells))
        return torch.stack([cell["noise"] for cell in cells])

    return lclip.explore(render, kinds, MODEL, ["a statue", "blood"], **{"side": 3, **settings}), kinds, seen


def test_cells_are_scored_as_each_is_alone():
    found, kinds, seen = walk(at_once=4)
    assert seen == [4, 4, 1] and found.scores.shape == (2, 3, 3)
    middle = kinds[0].at(0.5, 1.0)
    torch.testing.assert_close(found.latents[found.cell(1, 2)], middle)
    torch.testing.assert_close(
        found.scores[:, 2, 1], lclip.similarity(MODEL, middle[None], ["a statue", "blood"])[0].detach()
    )
    assert found.cell(9, 9) == 8  # beyond the map: its last cell
    torch.testing.assert_close(walk()[0].scores, found.scores)


@pytest.mark.parametrize(
    "bad", [{"side": 3.0}, {"side": True}, {"at_once": -1}, {"at_once": 0}, {"at_once": 2.5}]
)
def test_counts_of_cells_that_are_none(bad):
    with pytest.raises(ValueError, match="expected"):
        walk(**bad)


def test_what_a_page_is_told_is_what_was_found():
    found, _, _ = walk(level=0.05)
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert (told["columns"], told["rows"], told["x"], told["y"]) == (3, 3, "noise 1-2", "noise 1-3")
    assert told["places"][5] == "noise 1-2 1, noise 1-3 0.5" and told["levels"] == [0.05, 0.05]
    assert told["scores"][1] == [round(value, 5) for value in found.scores[1].flatten().tolist()]
    assert told["uphill"][0] == uphill(found.scores[0]).flatten().tolist()


def test_a_cell_that_is_not_finite_is_a_hole():
    kinds = [SphericalCorners("noise", noise(2))]

    def render(cells):
        latents = torch.stack([cell["noise"] for cell in cells])
        latents[1] = NAN
        return latents

    found = lclip.explore(render, kinds, MODEL, "a statue", side=3)
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert told["scores"][0][1] is None and None not in (told["scores"][0][0], told["scores"][0][2])
    assert found.path(0, 0, 1) == [(0, 1)]


@pytest.mark.parametrize("texts", ["", "  ", [], ["", " "]])
def test_a_map_without_a_text_is_refused(texts):
    with pytest.raises(ValueError, match="no text"):
        lclip.explore(
            lambda cells: torch.zeros(len(cells), 4, 8, 8), [LinearCorners("latent", noise(2))], MODEL, texts
        )


def test_a_render_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1 latents for 9 cells"):
        lclip.explore(
            lambda cells: noise(1)[0][None], [SphericalCorners("noise", noise(3))], MODEL, "blood", side=3
        )


@pytest.mark.parametrize(
    ("render", "level", "said"),
    [
        (lambda cells: None, None, "the render gave NoneType; expected latents"),
        (
            lambda cells: noise(1)[0][None].repeat(len(cells), 1, 1, 1),
            math.nan,
            "level of the contours is nan",
        ),
    ],
)
def test_a_render_or_level_that_is_none_is_refused(render, level, said):
    with pytest.raises(ValueError, match=said):
        lclip.explore(render, [SphericalCorners("noise", noise(3))], MODEL, "blood", side=3, level=level)
