"""The training of the mini world, at a size of seconds: what it learns from, and that every stage runs."""

import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mini_stages import made_by

from lclip.mini import train
from lclip.mini.drawing import place, random_palette
from lclip.mini.pairing import draw_pair
from lclip.mini.scenes import (
    COLOURS,
    GROUNDS,
    SHAPES,
    canonical,
    caption,
    random_content,
    split_of,
    vague,
)
from lclip.mini.train_clip import (
    CONFIG,
    GROUP_SIZE,
    PIXEL_CONFIG,
    adversarial_examples,
    draw_pool,
    encode_by_length,
    loss_on,
    tokenizer,
)
from lclip.mini.train_generator import draw_pairs, draw_shown
from lclip.mini.vae import MiniVAE
from lclip.model.latent_clip import LatentCLIP


def test_nothing_held_out_is_in_the_training_pictures():
    pool = draw_pool(21, groups=20)
    assert len(pool.contents) == len(pool.pictures) == len(pool.facts.kind) == 20 * GROUP_SIZE
    assert {split_of(content) for content in pool.contents} == {"train"}
    for first in range(0, len(pool.contents), GROUP_SIZE):
        group = pool.contents[first : first + GROUP_SIZE]
        assert len({caption(canonical(content)) for content in group}) == GROUP_SIZE


def test_nameless_colours_change_the_picture_and_leave_the_caption():
    named, nameless = draw_pool(21, groups=3), draw_pool(21, nameless=1.0, groups=3)
    words = {word for content in nameless.contents for word in caption(content).split()}
    assert not words & {*COLOURS, *GROUNDS}
    assert words & set(SHAPES)
    assert {*COLOURS} & {word for content in named.contents for word in caption(content).split()}
    rng = np.random.default_rng(0)
    for _ in range(20):
        palette = random_palette(rng)
        assert set(palette) == {*COLOURS, *GROUNDS}
        for colour, ground in itertools.product(COLOURS, GROUNDS):
            assert np.linalg.norm(np.subtract(palette[colour], palette[ground])) > 40


def test_pairs_belong_together():
    vae = MiniVAE()
    pairs, again = (draw_pairs(vae, tokenizer(), number=8) for _ in range(2))
    assert torch.equal(pairs.latents, again.latents)
    assert torch.equal(pairs.ids, again.ids)
    noises = [item.noise.sample(np.arange(8), np.random.default_rng(0)) for item in (pairs, again)]
    assert np.array_equal(*noises)
    assert pairs.latents.shape == (8, 4, 8, 8)


def test_texts_encoded_by_length_are_the_same_in_the_same_order():
    torch.manual_seed(0)
    model = LatentCLIP(CONFIG, tokenizer=tokenizer())
    ids = tokenizer().encode(["a small red star", "a ring", "three skulls on a grey ground", "a", "rings"])
    with torch.no_grad():
        torch.testing.assert_close(encode_by_length(model, ids, 3), model.encode_tokens(ids))


def test_adversarial_examples_climb_the_loss_within_epsilon():
    torch.manual_seed(0)
    pictures, slope = torch.randn(6, 4, 8, 8), torch.randn(6, 4, 8, 8)
    change = adversarial_examples(pictures, lambda x: (x * slope).sum(), 0.4) - pictures
    sizes = change.square().mean(dim=(1, 2, 3)).sqrt()
    assert sizes.max() <= 0.4 + 1e-5
    assert sizes.std() > 0.02  # of random size
    cosines = torch.cosine_similarity(change.flatten(1), slope.flatten(1))
    torch.testing.assert_close(cosines, torch.ones(6))


def test_no_picture_of_the_generators_training_shows_what_is_held_out():
    """A vague caption leaves much to its noise, which would choose held-out contents for some."""
    rng = np.random.default_rng(0)
    spoken = [vague(random_content(rng, "train"), rng) for _ in range(400)]
    drawn = [draw_pair(content, rng.standard_normal((4, 8, 8)), rng)[0] for content in spoken]
    assert {split_of(scene.content) for scene in drawn} == {"train", "dev", "test"}
    assert {split_of(draw_shown(content, rng)[0].content) for content in spoken} == {"train"}


def test_the_adversarial_cycle_is_harder_for_the_model():
    torch.manual_seed(0)
    model = LatentCLIP(PIXEL_CONFIG, tokenizer=tokenizer())
    pool = draw_pool(21, groups=40)
    losses = []
    pictures = torch.from_numpy(pool.pictures).permute(0, 3, 1, 2) / 255.0
    for epsilon in (None, 0.01):
        torch.manual_seed(1)
        losses.append(loss_on(model, pool, pictures, epsilon)(np.random.default_rng(0)).item())
    assert losses[1] > losses[0]


@pytest.mark.parametrize("stage", ["vae", "generator", "latent_clip", "pixel_clip", "half", "alone"])
def test_every_stage_writes_its_file_and_the_same_again(stage, tmp_path, monkeypatch):
    """Two steps of each stage, on a handful of pictures, through the real command's functions; twice the
    same."""
    from lclip.mini import train_generator, train_vae
    from lclip.mini.world import WEIGHTS

    monkeypatch.setattr(train_vae, "SCENES", 40)
    monkeypatch.setattr(train_vae, "ENLARGED_SCENES", 2)
    monkeypatch.setattr(
        train, "draw_pairs", lambda vae, words: train_generator.draw_pairs(vae, words, number=70)
    )
    needs = train.STAGES[stage].needs or ("vae",)
    for need in needs:
        shutil.copy(WEIGHTS / f"{need}.safetensors", tmp_path)
    before = {need: (tmp_path / f"{need}.safetensors").read_bytes() for need in needs}
    first = made_by(stage, tmp_path, seed_before=1)
    written = tmp_path / f"{stage}.safetensors"
    assert written.stat().st_size > 100_000
    changed = {need for need in needs if (tmp_path / f"{need}.safetensors").read_bytes() != before[need]}
    assert changed == {stage} & set(needs)  # its own file, and none of those that it reads
    assert not list(tmp_path.glob("*.tmp"))
    second = made_by(stage, tmp_path, seed_before=2)
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())


def test_layouts_differ_between_scenes_of_one_content():
    rng = np.random.default_rng(0)
    content = canonical(draw_pool(21, groups=1).contents[0])
    assert len({tuple((item.x, item.y) for item in place(content, rng).objects) for _ in range(20)}) > 3


def _stage(*needs: str) -> train.Stage:
    return train.Stage(lambda work, out, steps: None, needs)


def test_stages_begin_when_what_they_need_is_there_two_at_a_time(tmp_path):
    order = tmp_path / "order"
    code = "import sys, time; open(sys.argv[1], 'a').write(sys.argv[2] + ' '); time.sleep(1); "
    code += "open(sys.argv[1], 'a').write(sys.argv[2].upper() + ' ')"
    stages = {"a": _stage(), "b": _stage("a"), "c": _stage(), "d": _stage("b", "c"), "e": _stage()}

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", code, str(order), name])

    assert train.run_all(start, stages, workers=2) == 0
    events = order.read_text().split()
    assert sorted(events) == sorted("abcdeABCDE")
    for name, stage in stages.items():
        assert all(events.index(need.upper()) < events.index(name) for need in stage.needs)
    at_work = np.cumsum([1 if event.islower() else -1 for event in events])
    assert at_work.max() == 2


def test_a_stage_that_fails_ends_the_training_with_its_exit_code(tmp_path):
    started = []

    def start(name: str) -> subprocess.Popen:
        started.append(name)
        code = f"raise SystemExit({3 if name == 'bad' else 0})"
        return subprocess.Popen([sys.executable, "-c", code])

    stages = {"bad": _stage(), "good": _stage(), "after": _stage("bad"), "last": _stage("good", "bad")}
    assert train.run_all(start, stages, workers=2) == 3
    assert started == ["bad", "good"]


def test_a_stage_whose_need_nobody_makes_is_named():
    stages = {"first": _stage("missing")}
    with pytest.raises(ValueError, match="first wait"):
        train.run_all(lambda stage: subprocess.Popen([sys.executable, "-c", ""]), stages)


def test_the_shipped_plan_can_be_carried_out():
    done: list[str] = []
    for name, stage in train.STAGES.items():
        assert set(stage.needs) <= set(train.STAGES) - {name}
        if set(stage.needs) <= set(done):
            done.append(name)
    assert done == list(train.STAGES), "a stage stands before one that it needs"
