"""What the mini world's models learn from beside drawn pictures: of the training split alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lclip.mini import train_alone, train_generator
from lclip.mini.scenes import caption, random_content, split_of
from lclip.mini.train_clip import tokenizer
from lclip.mini.world import load_latent_clip


@pytest.fixture
def asked(monkeypatch):
    """The contents that were drawn. One of another split is an error at once: what belongs to a held-out one
    is never found."""
    drawn = []

    def draw(rng, split="train"):
        content = random_content(rng, split)
        assert split_of(content) == "train", f"of {split}: {caption(content)}"
        drawn.append(content)
        return content

    for module in (train_generator, train_alone):
        monkeypatch.setattr(module, "random_content", draw)
    return drawn


def test_the_generator_is_asked_for_nothing_that_is_held_out(asked):
    words = tokenizer()
    vae = SimpleNamespace(encode=lambda pixels: torch.zeros(len(pixels), 4, 8, 8), shift=0.0)
    pairs = train_generator.draw_pairs(vae, words, number=300, seed=5)
    assert len(asked) == 300 == len(pairs.ids)
    read = {tuple(row) for row in pairs.ids.tolist()}
    rng = np.random.default_rng(1)
    held = [random_content(rng, split) for split in ("dev", "test") for _ in range(400)]
    assert not read & {tuple(row) for row in words.encode([caption(content) for content in held]).tolist()}
    train = {tuple(row) for row in words.encode([caption(content) for content in asked]).tolist()}
    assert len(read & train) > 20  # some are asked for in full


def test_the_clip_without_a_teacher_sees_nothing_generated_that_is_held_out(asked):
    shown: list[str] = []

    def generate(captions, noise):
        shown.extend(captions)
        return 6 * noise

    world = SimpleNamespace(generate=generate, latent_clip=load_latent_clip())
    loss_of = train_alone._with_generated(lambda rng: torch.zeros(()), world)
    for seed in range(8):
        assert loss_of(np.random.default_rng(seed)).isfinite()
    assert shown == [caption(content) for content in asked] and len(shown) == 8 * train_alone.GENERATED
