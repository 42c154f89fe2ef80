"""The distillation of the mini world's Latent-CLIP: its lessons, and the searches among them."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lclip import ReNORun, ReNOSettings
from lclip.mini import train_latent_clip
from lclip.mini.captions import CaptionReward
from lclip.mini.drawing import render_batch, sample_scenes
from lclip.mini.scenes import canonical, caption
from lclip.mini.train_latent_clip import (
    CYCLES,
    RENO,
    SEARCHED,
    SEARCHES,
    DistillationCycle,
    Lessons,
    draw_captions,
    new_student,
)
from lclip.mini.train_latent_clip import train_latent_clip as distil
from lclip.mini.world import World, load_world
from lclip.model.latent_clip import LatentCLIP

ROUND = SEARCHES // SEARCHED  # batches until the same searches go on
LENGTH = RENO.iterations
CYCLE = DistillationCycle(replace(CYCLES[0].settings, warmup=1), drawn=20, generated=10)
STEP = RENO.learning_rate * RENO.grad_clip * (1 + RENO.momentum)  # the longest first step of a search


@pytest.fixture(autouse=True)
def one_thread():
    """As the training computes; more would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def world() -> World:
    """The shipped world, whose shipped Latent-CLIP stands for one in training."""
    return load_world()


@pytest.fixture
def pictures(world) -> torch.Tensor:
    """Raw latents of drawn scenes."""
    pixels = torch.from_numpy(render_batch(sample_scenes(50, seed=3))).permute(0, 3, 1, 2) / 255.0
    return world.encode(pixels)


def test_a_student_has_the_teachers_texts_and_learns_with_the_image_tower_alone(world):
    student = new_student(world.pixel_clip)
    texts = ["a red star", "two skulls on a grey ground"]
    assert torch.equal(student.encode_text(texts), world.pixel_clip.encode_text(texts))
    assert student.logit_scale == world.pixel_clip.logit_scale
    trained = {name.split(".")[0] for name, weight in student.named_parameters() if weight.requires_grad}
    assert trained == {"visual"}


def test_the_searches_are_renos(world, pictures):
    """Five iterations of some searches are those that `lclip.ReNORun` makes of the same start."""
    lessons = Lessons(world, pictures, CYCLE)
    rows = slice(SEARCHED, 2 * SEARCHED)
    going_on = [row - SEARCHED for row in range(SEARCHED, 2 * SEARCHED) if 0 < row % LENGTH < LENGTH - 4]
    captions, noise = list(lessons.captions[rows]), lessons.noise[rows].clone()
    found = [lessons.batch(1 + ROUND * turn).searched for turn in range(5)]
    reward = CaptionReward(world.latent_clip, captions)
    run = ReNORun(world.generator(captions), noise, reward, ReNOSettings(iterations=5))
    for ours, step in zip(found, run, strict=True):
        torch.testing.assert_close(ours[going_on], step.latents[going_on], rtol=1e-4, atol=1e-3)
    moved = (found[-1] - found[0])[going_on].square().mean(dim=(1, 2, 3)).sqrt()
    assert moved.min() > 0.01


def test_a_search_that_has_had_its_iterations_makes_way_for_another(world, pictures):
    lessons = Lessons(world, pictures, CYCLE)
    captions, noise = list(lessons.captions), lessons.noise.clone()
    lessons.batch(0)
    assert lessons.captions[0] != captions[0]
    assert lessons.captions[1:] == captions[1:]
    moves = (lessons.noise - noise).flatten(1).norm(dim=1)
    assert (moves[SEARCHED:] == 0).all()
    assert moves[0] > 10  # a new one: the distance of two noises of 256 numbers is about 22
    assert 0 < moves[1:SEARCHED].min() <= moves[1:SEARCHED].max() < 1.1 * STEP


def test_nothing_held_out_is_asked_for_and_the_captions_differ():
    asked = draw_captions(np.random.default_rng(0), 300)
    assert len(set(asked)) > 200
    held_out = {caption(canonical(scene.content)) for scene in sample_scenes(2000, 5, split="dev")}
    assert not held_out & set(asked)


def test_before_the_searches_nothing_is_misled(world, pictures):
    lessons = Lessons(world, pictures, replace(CYCLE, searched_from=5))
    noise = lessons.noise.clone()
    early = lessons.batch(4)
    assert torch.equal(lessons.noise, noise)
    late = lessons.batch(5)
    assert not torch.equal(lessons.noise, noise)
    assert early.texts is None
    assert late.texts is not None and late.texts.shape == (30, world.latent_clip.config.embed_dim)
    for lesson in (early, late):
        assert lesson.latents.shape == (30, 4, 8, 8)
        assert lesson.searched.shape == (SEARCHED, 4, 8, 8)
    drawn = late.latents[:20].unsqueeze(1) == pictures
    assert drawn.flatten(2).all(-1).any(-1).all(), "the first latents are not those of drawn pictures"


@pytest.mark.parametrize("batches", [1, 2])  # cut in the first cycle, and between the two
def test_a_distillation_that_is_cut_goes_on_as_if_it_had_not_been(batches, pictures, tmp_path, monkeypatch):
    """Two cycles of two steps, whole and cut, give the same weights; each batch holds all searches."""
    cycle = replace(CYCLE, settings=replace(CYCLE.settings, save_every=1))
    monkeypatch.setattr(train_latent_clip, "CYCLES", (cycle, cycle))
    monkeypatch.setattr(train_latent_clip, "SEARCHES", SEARCHED)
    teacher = load_world().pixel_clip
    batch = Lessons.batch
    left = iter(range(batches))

    def cut_short(lessons: Lessons, step: int):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return batch(lessons, step)

    def trained(folder: Path) -> dict[str, torch.Tensor]:
        world = load_world(latent_clip=new_student(teacher))
        return distil(world, pictures, folder, 2).state_dict()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lessons, "batch", cut_short)
        trained(tmp_path / "cut")
    whole, again = trained(tmp_path / "whole"), trained(tmp_path / "cut")
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())


def test_searches_that_are_not_restored_are_others(world, pictures, monkeypatch):
    """What the test above rests on."""
    monkeypatch.setattr(train_latent_clip, "SEARCHES", SEARCHED)
    lessons = Lessons(world, pictures, CYCLE)
    lessons.batch(0)
    restored, fresh = Lessons(world, pictures, CYCLE), Lessons(world, pictures, CYCLE)
    restored.restore([lessons.state()], 1)
    following = lessons.batch(1).searched
    assert torch.equal(restored.batch(1).searched, following)
    assert not torch.equal(fresh.batch(1).searched, following)


def test_a_checkpoint_of_another_plan_or_teacher_is_refused(world, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(train_latent_clip, "CYCLES", (CYCLE,))
    distil(load_world(latent_clip=new_student(world.pixel_clip)), pictures, tmp_path, 1)
    other = copy.deepcopy(world.pixel_clip)
    other.log_logit_scale.data += 0.1
    with pytest.raises(ValueError, match="begun with another pixel CLIP"):
        distil(load_world(latent_clip=new_student(other)), pictures, tmp_path, 1)
    monkeypatch.setattr(train_latent_clip, "CYCLES", (replace(CYCLE, drawn=10),))
    with pytest.raises(ValueError, match=r"begun with drawn.*\[20, 10, 0\]; expected \[10, 10, 0\]"):
        distil(load_world(latent_clip=new_student(world.pixel_clip)), pictures, tmp_path, 1)


def test_distillation_teaches_which_picture_has_which_embedding(world, pictures, tmp_path, monkeypatch):
    """A student that learnt one answer for all would agree as well with the other pictures' embeddings."""
    monkeypatch.setattr(train_latent_clip, "CYCLES", (replace(CYCLE, searched_from=100),))
    student = new_student(world.pixel_clip)
    before = _own_over_others(student, world, pictures)
    distilled = distil(load_world(latent_clip=student), pictures, tmp_path, 25)
    assert _own_over_others(distilled, world, pictures) > before + 0.05


@torch.no_grad()
def _own_over_others(model: LatentCLIP, world: World, latents: torch.Tensor) -> float:
    """How much nearer embeddings are to the teacher's of the same picture than to those of the others."""
    cosines = model.encode_latents(latents) @ world.pixel_clip.encode_latents(world.decode(latents)).T
    own, number = cosines.diag(), len(latents)
    return (own.mean() - (cosines.sum() - own.sum()) / (number * (number - 1))).item()
