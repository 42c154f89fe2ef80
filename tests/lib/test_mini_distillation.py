"""The distillation of the mini world's Latent-CLIP: its lessons, and the searches among them."""

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
    PART,
    RENO,
    SEARCHES,
    Cycle,
    Lessons,
    draw_captions,
    new_student,
)
from lclip.mini.train_latent_clip import (
    train_latent_clip as distil,
)
from lclip.mini.world import World, load_world

ROUND = SEARCHES // PART  # batches until the same searches go on
LENGTH = RENO.iterations
CYCLE = Cycle(replace(CYCLES[0].settings, warmup=1), drawn=20, generated=10)
STEP = RENO.learning_rate * RENO.grad_clip * (1 + RENO.momentum)  # the longest first step of a search


@pytest.fixture
def world() -> World:
    """The shipped world, whose shipped Latent-CLIP stands for one in training."""
    return load_world()


@pytest.fixture
def pictures() -> torch.Tensor:
    """Raw latents of drawn scenes."""
    pixels = torch.from_numpy(render_batch(sample_scenes(50, seed=3))).permute(0, 3, 1, 2) / 255.0
    return load_world().encode(pixels)


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
    rows = slice(PART, 2 * PART)
    going_on = [row - PART for row in range(PART, 2 * PART) if 0 < row % LENGTH < LENGTH - 4]
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
    assert (moves[PART:] == 0).all()
    assert moves[0] > 10  # a new one: the distance of two noises of 256 numbers is about 22
    assert 0 < moves[1:PART].min() <= moves[1:PART].max() < 1.1 * STEP


def test_nothing_held_out_is_asked_for_and_the_captions_differ():
    asked = draw_captions(np.random.default_rng(0), 300)
    assert len(set(asked)) > 200
    held_out = {caption(canonical(scene.content)) for scene in sample_scenes(2000, 5, split="held-out")}
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
        assert lesson.searched.shape == (PART, 4, 8, 8)
    drawn = late.latents[:20].unsqueeze(1) == pictures
    assert drawn.flatten(2).all(-1).any(-1).all(), "the first latents are not those of drawn pictures"


def test_a_distillation_that_is_cut_goes_on_as_if_it_had_not_been(pictures, tmp_path, monkeypatch):
    """Three steps, and one and then two, give the same weights: the searches are resumed too."""
    cycle = replace(CYCLE, settings=replace(CYCLE.settings, save_every=1))
    monkeypatch.setattr(train_latent_clip, "CYCLES", (cycle,))
    teacher = load_world().pixel_clip

    def trained(folder: Path, steps: int) -> dict[str, torch.Tensor]:
        world = load_world(latent_clip=new_student(teacher))
        return distil(world, pictures, folder, steps).state_dict()

    whole = trained(tmp_path / "whole", 3)
    cut = Lessons.batch

    def until_step_one(lessons: Lessons, step: int):
        if step == 1:
            raise KeyboardInterrupt
        return cut(lessons, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lessons, "batch", until_step_one)
        trained(tmp_path / "cut", 3)
    again = trained(tmp_path / "cut", 3)
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())


def test_distillation_brings_the_student_nearer_to_the_teacher(world, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(train_latent_clip, "CYCLES", (CYCLE, CYCLE))
    student = new_student(world.pixel_clip)
    before = _agreement(student, world, pictures)
    distilled = distil(load_world(latent_clip=student), pictures, tmp_path, 5)
    assert _agreement(distilled, world, pictures) > before + 0.1


@torch.no_grad()
def _agreement(model, world: World, latents: torch.Tensor) -> float:
    taught = world.pixel_clip.encode_latents(world.decode(latents))
    return (model.encode_latents(latents) * taught).sum(-1).mean().item()
