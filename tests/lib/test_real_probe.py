"""The probe's data leak no answer, its shards are what the trainer reads, its figures can be had by hand."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_real_pictures import built, cache, write_random  # noqa: F401

import lclip
from benchmarks import real_gate, real_probe
from benchmarks.harness import Run, Skipped
from benchmarks.real import encoded, plans, probe, probe_plan
from lclip.data.finding import find_shards
from lclip.data.samples import PICTURE
from lclip.training.objectives import VAE_PICTURE
from lclip.training.samples import Decoder
from lclip.training.towers import new_towers


@pytest.fixture
def pictures(cache, monkeypatch):  # noqa: F811
    monkeypatch.setattr(probe_plan, "WAYS", 2)
    return built(cache)[0]


def test_no_question_is_of_what_was_learnt_but_the_other_hands_names(pictures):
    taught = probe_plan.learnt(pictures, 99)
    asked = {question: probe_plan.asked(pictures, question) for question in probe_plan.GROUPS}
    names, paths = {item.name for item in taught}, {item.path for item in taught}
    assert taught and asked["style"] and not any(item.held_out for item in taught)
    for question, items in asked.items():
        assert not paths & {item.path for item in items}
        assert len(items) % 2 == 0 and len({item.name for item in items}) == len(items)
        assert all((item.name in names) == (question in ("style", "grounds")) for item in items)
        assert all(item.held_out == (question in ("style", "grounds")) for item in items)


def test_a_drawing_has_the_same_share_of_the_picture_at_every_size(cache, pictures):  # noqa: F811
    item = next(i for i in probe_plan.learnt(pictures, 9) if i.ground == plans.WHITE_GROUND)
    small, large, wide = (plans.render(item, size, cache) for size in (64, 256, (384, 256)))
    assert (small.shape, large.shape, wide.shape) == ((64, 64, 3), (256, 256, 3), (256, 384, 3))

    def covered(picture):
        return float((np.abs(picture.astype(int) - picture[0, 0].astype(int)).max(-1) > 60).sum())

    assert covered(large) / covered(small) == pytest.approx(16, rel=0.15)
    assert covered(wide) == pytest.approx(covered(large), rel=0.1)


def test_moving_keeps_cells_and_repeats_the_edge():
    side = 4 * probe.MOVED
    z = torch.arange(2.0 * side * side).reshape(2, side, side)
    found = [probe.moved(z, random.Random(seed)) for seed in range(20)]
    assert all(
        each.shape == z.shape and set(each.unique().tolist()) <= set(z.unique().tolist()) for each in found
    )
    middle = side // 2
    inner = {tuple(each[0, middle, middle - 1 : middle + 1].tolist()) for each in found}
    assert len(inner) > 10 and {b - a for a, b in inner} == {1.0, -1.0}  # mirrored or not
    moved = probe.moved(torch.rand(3, 256, 256), random.Random(1), probe.CELL)
    assert moved.shape == (3, 256, 256)


@pytest.mark.parametrize("space", probe.SPREAD)
def test_jitter_is_of_the_colours_and_small(space):
    spread = probe.SPREAD[space]
    z = torch.full((4, 16, 16), 128.0).to(torch.uint8) if space == encoded.PIXELS else torch.zeros(4, 16, 16)
    found = torch.stack([probe.jittered(z, random.Random(seed), spread).float() for seed in range(200)])
    shifts = found.mean((2, 3)) - z.float().mean()
    assert found.shape == (200, 4, 16, 16)
    assert (
        float(shifts.std()) < 3 * spread * probe.JITTER and float(shifts.std()) > 0.5 * spread * probe.JITTER
    )
    assert float((found - found.mean((2, 3), keepdim=True)).std()) < 1.1 * spread * probe.NOISE


@pytest.mark.parametrize("reader", probe.READERS)
def test_shards_are_what_the_trainer_reads(tmp_path, reader):
    _, space = probe.READERS[reader]
    pixels = space == encoded.PIXELS
    side = probe.PICTURES if pixels else probe.CELLS
    z = (
        torch.randint(0, 255, (3, 3, side, side), dtype=torch.uint8)
        if pixels
        else torch.randn(3, 4, side, side).half()
    )
    items = [{"name": f"red apple {n}", "keywords": ["fruit", "apple"]} for n in "abc"]
    folder = probe.write_shards(tmp_path, encoded.Encoded(z, items), space)
    towers = new_towers(probe.config(reader))
    config = towers.config
    decode = Decoder(
        latents=None if pixels else (config.channels, config.native_size, config.native_size),
        tokenizer=towers.tokenizer,
        pictures={VAE_PICTURE: config.native_size} if pixels else {},
    )
    shards = list(find_shards([folder], holding=(PICTURE,)))
    read = [decode(sample) for shard in shards for sample in shard.samples()]
    assert len(read) == 3 * probe.VERSIONS[space]
    first = read[0][VAE_PICTURE if pixels else "latents"]
    apart = float(first.float().mean()) - float(z[0].float().mean())
    assert abs(apart) < 1.5 * probe.SPREAD[space] * probe.JITTER
    picture = probe.pixels_as_read(first[None] / 255) if pixels else first[None]
    assert (
        towers.encode_latents(picture).shape == towers.encode_tokens(read[0]["ids"][None]).shape == (1, 128)
    )


def test_a_caption_says_each_word_once():
    item = {"name": "red apple", "keywords": ["Apple", "fruit", "food", *"abcdefg"]}
    assert probe.caption(item) == "red apple, fruit, food, a, b, c, d"
    said = {probe.caption(item, random.Random(seed)) for seed in range(20)}
    assert len(said) > 5 and all("red apple" in text for text in said)


def test_the_names_that_most_hands_have_drawn_come_first(pictures, monkeypatch):
    drawn = [p for p in pictures if p.named and not p.held_out and p.split == "train"]
    wanted = drawn[-1].name
    more = [replace(p, id=f"{p.id}{n}", source=f"hand {n}") for p in drawn if p.name == wanted for n in "ab"]
    monkeypatch.setitem(probe_plan.GROUPS, "style", 1)
    for question in (probe_plan.asked([*pictures, *more], "style"), probe_plan.learnt([*pictures, *more], 3)):
        assert wanted in {item.name for item in question}
    assert {item.name for item in probe_plan.learnt([*pictures, *more], 3)} == {wanted}


def test_half_of_what_is_learnt_lies_on_white(pictures):
    taught = probe_plan.learnt(pictures, 99)
    assert sum(item.ground == plans.WHITE_GROUND for item in taught) == len(taught) // 2


def test_all_hands_say_the_same_of_a_name_within_a_version(tmp_path):
    items = [{"name": "red apple", "keywords": [*"abcdefgh"]}] * 2
    drawings = encoded.Encoded(torch.zeros(2, 4, probe.CELLS, probe.CELLS).half(), items)
    folder = probe.write_shards(tmp_path, drawings, "sdxl")
    shards = list(find_shards([folder], holding=(PICTURE,)))
    said = [[sample.read("txt") for sample in shard.samples()] for shard in shards]
    assert len(said) == probe.VERSIONS["sdxl"] and all(first == second for first, second in said)
    assert len({first for first, _ in said}) > 3


def test_hits_are_counted_within_each_group():
    texts = torch.eye(4)
    images = texts[[0, 0, 2, 3]]
    assert real_probe.hits(images, texts, 2).tolist() == [True, False, True, True]
    assert not real_probe.hits(texts[[1, 0, 3, 2]], texts, 2).any()


def test_without_drawings_or_probes_the_section_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setenv("LCLIP_PICTURES", str(tmp_path))
    with pytest.raises(Skipped, match=r"benchmarks\.real probe"):
        real_probe.probe(Run(tiny=True))


def encode_at_random(cache, plan, space, size, number, channels, held_out):  # noqa: F811
    """As if encoded: random latents of numbered names."""
    side = size // (16 if space == "flux2" else 8) if space != encoded.PIXELS else size
    items = [
        {
            "id": f"{plan}-{n}",
            "name": f"thing {'abcdefgh'[n]}",
            "keywords": [],
            "source": "s",
            "held_out": held_out,
        }
        for n in range(number)
    ]
    z = 6 * torch.randn(number, channels, side, side)
    z = (z.abs() * 9).byte() if space == encoded.PIXELS else z.half()
    folder = encoded.folder_of(cache, plan, space, size)
    folder.mkdir(parents=True)
    save_file({"latents": z}, folder / "00000.safetensors")
    (folder / "00000.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


def test_the_section_tells_of_all_that_is_encoded_and_says_what_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("LCLIP_PICTURES", str(tmp_path))
    monkeypatch.setenv("TAESD_PATH", str(tmp_path))
    monkeypatch.setattr(real_probe, "WAYS", 2)
    for space in ("sdxl", "flux"):
        write_random(tmp_path, space)
    encode_at_random(tmp_path, "probe-learnt", "sdxl", 512, 8, 4, False)
    encode_at_random(tmp_path, "probe-style", "sdxl", 512, 5, 4, True)
    encode_at_random(tmp_path, "probe-style", "sdxl", 1024, 2, 4, True)
    encode_at_random(tmp_path, "probe-style", "flux", 512, 2, 16, True)
    encode_at_random(tmp_path, "probe-style", encoded.PIXELS, probe.PICTURES, 4, 3, True)
    for reader in ("patch-4", "pixels"):
        path = probe.checkpoint(tmp_path, reader)
        path.parent.mkdir(parents=True)
        lclip.save_checkpoint(new_towers(probe.config(reader)), path)
    text = real_probe.probe(Run(tiny=True))
    rows = [[cell.strip() for cell in line.split("|")[1:]] for line in text.splitlines() if line[:2] == "| "]
    assert any(row[0] == "latents, 256 tokens" and "n = 4" in row[1] for row in rows)
    assert any(row[0] == "pixels, 64 tokens" and "n = 4" in row[1] for row in rows)
    told = {(row[0], row[1]) for row in rows}
    assert {("2x", rule) for rule in (*lclip.SIZE_RULES, "through pixels")} <= told
    assert {("flux", "the shipped adapter"), ("flux", "through pixels")} <= told
    assert "not trained" in text and "not encoded" in text and "1.5x" not in text and "sd3" not in text


def test_what_a_gate_loses_is_what_counting_pairs_gives():
    rng = np.random.default_rng(3)
    shows = rng.random((3, 40)) < 0.3
    native, worse = shows + rng.normal(0, 0.4, shows.shape), shows + rng.normal(0, 2.0, shows.shape)

    def area(p, y):
        return np.mean([float(a > b) for a in p[y] for b in p[~y]])

    by_hand = [np.mean([area(p, y) for p, y in zip(each, shows, strict=True)]) for each in (native, worse)]
    found = real_gate.lost(native, worse, shows)
    assert found.value == pytest.approx(by_hand[0] - by_hand[1])
    assert found.low < found.value < found.high and found.low > 0
    assert real_gate.lost(native, native, shows).figures == (0, 0, 0)
    few = real_gate.compared(native, worse, shows)
    assert few[0] == f"{by_hand[0]:.3f}" and float(few[-2][:-1].strip()) > float(few[-1][:-1].strip())


def test_the_gates_truth_is_in_names_and_key_words():
    items = [{"name": "cat face", "keywords": []}, {"name": "x", "keywords": ["Animal", "Flag"]}]
    assert real_gate.truth(items).tolist() == [[False, True], [True, False], [False, True]]


def test_the_gate_is_asked_of_the_same_drawings_in_every_space(tmp_path):
    """Drawings that only one space has are in no figure."""
    torch.manual_seed(0)
    path = probe.checkpoint(tmp_path, real_gate.JUDGE)
    path.parent.mkdir(parents=True)
    lclip.save_checkpoint(new_towers(probe.config(real_gate.JUDGE)), path)
    for space, channels, first in (("sdxl", 4, 0), ("flux", 16, 2)):
        folder = encoded.folder_of(tmp_path, real_gate.PLAN, space, probe_plan.NATIVE)
        folder.mkdir(parents=True)
        spread = lclip.space_named(space).std
        items = [
            {"id": str(n), "name": f"{real_gate.CONCEPTS[n % 3]} {n}", "keywords": []}
            for n in range(first, 14)
        ]
        z = spread * torch.randn(len(items), channels, 64, 64)
        save_file({"latents": z.half()}, folder / "00000.safetensors")
        (folder / "00000.jsonl").write_text("\n".join(map(json.dumps, items)))
    told = real_gate.gate(Run(tiny=True), tmp_path)
    (row,) = [line for line in told.splitlines() if line.startswith("| flux")]
    assert row.split(" | ")[1] == "12" and "sd3" not in told
    assert "no probe is trained" in real_gate.gate(Run(tiny=True), tmp_path / "empty")
