"""Figures that the guides name are those of benchmarks/RESULTS.md: measured anew, they are written anew."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
if not RESULTS.is_file():
    pytest.skip("this copy comes without the results", allow_module_level=True)

COLOURS = ("a star on a white ground", "a large ring on a black ground")
SHAPES = ("a red shape on a white ground", "a large blue shape on a grey ground")
GROUNDS = ("a red star", "two blue squares")


def rows(section):
    """Cells of every row of a section's tables."""
    text = RESULTS.read_text("utf-8").partition(f"<!-- begin {section} -->")[2]
    lines = text.partition(f"<!-- end {section} -->")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:2] == "| "]


def first(cell):
    """The figure in front of its interval, as it is written."""
    return re.findall(r"-?[\d.]+", cell)[0]


def prose(path):
    return " ".join((ROOT / path).read_text("utf-8").split())


def shown(figures):
    """As the guides write several: the last after an "and"."""
    *others, last = figures
    return f"{', '.join(others)} and {last}" if others else last


def span(figures):
    ordered = sorted(figures, key=float)
    return f"{ordered[0]} to {ordered[-1]}"


@pytest.fixture(scope="module")
def errors():
    """(what is open, items) -> error of hard shares, corrected ones, share in the interval."""
    found = [row for row in rows("shares") if row[0] in ("colour", "shape", "ground")]
    return {(row[0], int(row[1])): [first(row[place]) for place in (2, 4, 6)] for row in found}


@pytest.fixture(scope="module")
def distances():
    """(caption, how) -> distance before, after; share that shows the wanted; rest right before, after."""
    found = [row for row in rows("shares") if row[0] in COLOURS + SHAPES + GROUNDS]
    return {
        (row[0], row[1].partition(",")[0]): [first(cell) if cell else "" for cell in row[2:]] for row in found
    }


def errors_said(errors):
    def of(what, place):
        return shown([errors[what, items][place] for items in (32, 128, 512)])

    last = errors["colour", 512]
    yield f"takes the error of colours in 512 pictures from {last[0]} to {last[1]} points"
    yield f"intervals of 512 pictures hold the true share of a colour in {last[2]} % of the cases"
    yield f"the ground, the error of hard shares is {of('ground', 0)} points of 32, 128 and 512 items"
    for what, by in (("colour", "by 256 labelled pictures "), ("shape", "")):
        yield f"{of(what, 0)} points; corrected {by}{of(what, 1)}."
    last = errors["ground", 512]
    yield f"the ground's {last[0]} points of 512 items become {last[1]}"


def distances_said(distances):
    open_ones = COLOURS + GROUNDS
    before, after = zip(*(distances[caption, "choosing"][:2] for caption in open_ones), strict=True)
    yield f"takes the distance to uniform from {span(before)} points down to {span(after)}."
    steered = {key: value for key, value in distances.items() if key[1] != "choosing"}
    ways = [tuple(map(float, v[:2])) for (caption, _), v in steered.items() if caption in open_ones]
    half, up = sum(b <= a / 2 for a, b in ways), sum(b > a for a, b in ways)
    less, same = sum(a / 2 < b < a for a, b in ways), sum(a == b for a, b in ways)
    yield (
        f"by a half or more in {half} of {len(ways)} rows of the table, by less in {less}, not at all in "
        f"{same}, and up in {up}."
    )
    begun, ended = zip(*(steered[caption, "ReNO"][:2] for caption in COLOURS), strict=True)
    yield f"ReNO takes {shown(begun)} points for the two captions of colours down to {shown(ended)}"
    shapes = [value for (caption, _), value in steered.items() if caption in SHAPES]
    yield (
        f"are {span([v[0] for v in shapes])} points from uniform before steering and "
        f"{span([v[1] for v in shapes])} after it, {span([v[2] for v in shapes])} % of the items show"
    )
    yield f"choosing leaves {shown([distances[caption, 'choosing'][1] for caption in SHAPES])} points"
    *_, right, now = steered[SHAPES[1], "ReNO"]
    yield f"right less often: {now} % instead of {right} %"


def test_the_guide_to_shares_names_the_figures_that_were_measured(errors, distances):
    page = prose("docs/bias.md")
    for said in (*errors_said(errors), *distances_said(distances)):
        assert said in page, said


def test_what_the_guide_to_shares_says_of_steering_without_a_figure(distances):
    guided = [distances[caption, "guidance"][:2] for caption in COLOURS + GROUNDS]
    assert sum(before != after for before, after in guided) == 1
    for (caption, how), value in distances.items():
        if caption not in SHAPES and how != "choosing":
            assert float(value[4]) >= float(value[3]), (caption, how)


def test_the_sliders_page_names_the_figures_that_were_measured():
    ranks, kept, least = {}, {}, {}
    for row in rows("sliders"):
        if named := re.match(r"(\w+): (noise|guidance)", row[0]):
            ranks[named.groups()], least[named.groups()] = first(row[1]), row[6].split(",")[0]
            kept[named.groups()] = f"{float(first(row[5])):g} %"
    both = [[(what, how) for how in ("noise", "guidance")] for what in ("size", "colour", "count")]
    size, colour, count = (shown([ranks[key] for key in keys]) for keys in both)
    page = prose("web/docs/LatentCLIP_Slider.md")
    assert f"by noise and by guidance: size {size}, colour {colour}, count {count}." in page
    (noise, guidance), colour, count = ([kept[key] for key in keys] for keys in both)
    assert (
        f"changes in {noise} of the series by noise and {guidance} by guidance for size, {shown(colour)} for "
        f"colour, {shown(count)} for count"
    ) in page
    assert {least["count", "noise"], least["count", "guidance"]} == {"shape"}
    shown_by = {row[0].split()[0]: row for row in rows("sliders") if "by examples: noise" in row[0]}
    (colour, all_else), (size, rest) = (
        (first(shown_by[what][1]), f"{float(first(shown_by[what][5])):g} %") for what in ("colour", "size")
    )
    assert (
        f"more surely ({colour} by noise, nothing else changed in {all_else}), sizes less ({size}, {rest})."
    ) in page
