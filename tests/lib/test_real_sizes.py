"""Real pictures at other sizes, and of all kinds: what is encoded is what the sections say it is."""

import json
import random
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image
from test_real_pictures import photograph, write_random

import lclip
from benchmarks import real_guards, real_maps
from benchmarks.harness import Run
from benchmarks.real import catalogue, kinds, sized, taesd
from benchmarks.real.names import Name
from benchmarks.real.packages import Package, Rule
from lclip.latents.size_rules import RULES


@pytest.fixture
def encoders(tmp_path, monkeypatch):
    """Random TAESD files of all spaces, and a cache that the sections find."""
    folder = tmp_path / "taesd"
    folder.mkdir()
    for space in taesd.FILES:
        write_random(folder, space)
    monkeypatch.setenv("TAESD_PATH", str(folder))
    monkeypatch.setenv("LCLIP_PICTURES", str(tmp_path))
    return folder


@pytest.fixture
def large(tmp_path):
    """Two photographs of the test split that are large enough for every size, and a drawing, catalogued."""
    found = []
    for number, kind in enumerate(("photograph", "photograph", "drawing")):
        path = tmp_path / f"{number}.jpg"
        photograph(number, 620, 600).save(path)
        package = Package("x", "debian", "CC0-1.0", ())
        picture = catalogue._candidate(package, Rule("*", kind), path.name, Name(""))
        found.append(replace(catalogue.measured(picture, tmp_path), split="test"))
    lines = [json.dumps(asdict(picture)) for picture in found]
    (tmp_path / "catalogue.jsonl").write_text("\n".join(lines) + "\n")
    return found


@pytest.fixture
def few(monkeypatch):
    """Two of the sizes, for a model of 4x4 cells: encoding takes long."""
    sizes = {"2x": (8, 8), "1536x640": (5, 12)}
    for module in (sized, real_maps):
        monkeypatch.setattr(module, "SIZES", sizes)
        monkeypatch.setattr(module, "NATIVE", 4)


def test_the_sizes_are_those_that_are_asked_for():
    """At 3/8 of what they are for a model of 64x64 cells; width and height as people say them."""
    wanted = {
        "1.25x": (640, 640), "1.5x": (768, 768), "2x": (1024, 1024), "3x": (1536, 1536),
        "832x1216": (832, 1216), "1216x832": (1216, 832), "1536x640": (1536, 640),
    }  # fmt: skip
    assert {
        title: (width * 8 * 8 / 3, height * 8 * 8 / 3) for title, (height, width) in sized.SIZES.items()
    } == wanted
    assert sized.NATIVE * 8 * 8 / 3 == 512


def test_what_is_measured_against_is_the_same_picture_at_the_size_that_a_rule_gives(
    encoders, few, large, tmp_path
):
    found = sized.make_sized(tmp_path, large, 1, say=lambda text: None)
    for title, size in sized.SIZES.items():
        z, native, through = (found[title + part] for part in ("", " native", " through"))
        assert z.shape == (1, 4, *size) and native.shape == through.shape
        reader = real_maps.NativeSize(lclip.space_named("sdxl"), sized.NATIVE)
        assert RULES["fit"](z, reader)[0].shape == RULES["crops"](z, reader)[0].shape == native.shape
        assert found[f"{title} picture"].tolist() == [0.0]
    assert found["2x native"].shape[-2:] == (4, 4) and found["1536x640 native"].shape[-2:] == (4, 10)


def test_a_part_of_a_picture_is_not_stretched():
    ramp = np.zeros((300, 600, 3), dtype=np.uint8)
    ramp[..., 0] = np.linspace(0, 255, 600)[None]
    ramp[..., 1] = np.linspace(0, 127, 300)[:, None]
    part = np.asarray(sized._cut(Image.fromarray(ramp), (30, 30), random.Random(0))).astype(float)
    across, down = part[120, -1, 0] - part[120, 0, 0], part[-1, 120, 1] - part[0, 120, 1]
    assert part.shape == (240, 240, 3) and across == pytest.approx(127, abs=3)
    assert down == pytest.approx(127, abs=3)


def test_the_section_of_sizes_names_every_size_and_way(encoders, few, large):
    told = real_maps.sizes(Run(tiny=True)).splitlines()
    for title in sized.SIZES:
        ways = [line.split(" | ")[1] for line in told if line.startswith(f"| {title} |")]
        assert {"fit, the shipped map", "the way through pixels"} < set(ways)
        assert ("nearest" in ways) == (title == "2x")


def test_pictures_of_all_kinds_come_once_each_of_the_test_split(large):
    many = [
        replace(p, id=f"{p.id}{n}", kind=kind, width=side, height=side, tone=tone)
        for n, (kind, side, tone) in enumerate(
            [("drawing", 64, ""), ("pixel art", 300, ""), ("photograph", 2000, ""), ("poster", 2000, "night")]
            * 400
        )
        for p in large[:1]
    ]
    learnt = [replace(p, id=f"l{p.id}", split="train") for p in many]
    found = kinds.of_all_kinds([*many, *learnt])
    assert set(found) == {256, 512, 1024, 2048} and len(found[2048]) == kinds.SIZES[2048]
    ids = [item.id for items in found.values() for item in items]
    assert len(ids) == len(set(ids)) >= 1000 and all(
        item.split == "test" for i in found.values() for item in i
    )
    sides = {p.id: p.short for p in many}
    assert all(s <= kinds.ENLARGED * sides[i.id] for s, items in found.items() for i in items)
    assert {item.kind for item in found[256]} == {"drawing", "pixel art", "photograph", "night"}
    assert found == kinds.of_all_kinds([*learnt, *many[::-1]])


def test_the_guards_are_asked_about_them(encoders, large, monkeypatch):
    monkeypatch.setattr(kinds, "SIZES", {128: 1, 64: 2})
    groups = {group.kind: group.latents.shape for group in real_guards._of_kinds(Run())}
    assert groups == {"drawing, 128 px": (1, 4, 16, 16), "photograph, 64 px": (2, 4, 8, 8)}
