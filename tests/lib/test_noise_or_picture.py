"""No picture is called noise and all noise is: the mini world's drawn, generated, and printed pages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from lclip.latents.scale import looks_like_noise
from lclip.mini.drawing import render, sample_scenes

NATIVE = 8


def encoded(world, pictures):
    """uint8 pictures [H, W, 3] -> raw latents."""
    with torch.no_grad():
        return world.encode(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255)


def page(seed, side):
    """Words in lines, black on white or the other way, on a plain ground."""
    rng = np.random.default_rng(seed)
    ground = tuple(int(v) for v in rng.integers(180, 256, 3))
    picture = Image.new("RGB", (side, side), ground)
    pen, size = ImageDraw.Draw(picture), int(rng.integers(6, 15))
    for y in range(int(rng.integers(0, size)), side, int(size * 1.4)):
        words = "".join(rng.choice(list("abcdefghijklmnop  tuvw,."), size=2 * side // size))
        pen.text((int(rng.integers(0, 6)), y), words, tuple(int(v) for v in rng.integers(0, 60, 3)), None)
    pixels = np.asarray(picture)
    return 255 - pixels if seed % 3 == 0 else pixels


@pytest.mark.parametrize("side", [64, 128, 256])
def test_no_drawn_picture_and_no_page_is_noise(world, side):
    scenes = sample_scenes(200 if side == 64 else 60, side)
    drawn = encoded(world, [render(scene, side, side) for scene in scenes])
    pages = encoded(world, [page(seed, side) for seed in range(120 if side == 64 else 60)])
    for pictures in (drawn, pages, F.pad(drawn[..., 1:-1, 1:-1], (1, 1, 1, 1), mode="replicate")):
        few = side == 64 and pictures is pages  # in 64 cells one page of text in 600 is as unrelated as noise
        assert looks_like_noise(pictures, NATIVE).sum() <= (1 if few else 0)
        assert not looks_like_noise(pictures, 64).any()  # as if a larger model read them


def test_no_generated_picture_is_noise(world):
    scenes = sample_scenes(200, 3)
    noise = torch.randn(200, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        made = world.generate([scene.caption for scene in scenes], noise, 1)
    assert not looks_like_noise(made, NATIVE).any()
    assert looks_like_noise(noise, NATIVE).sum() >= 195


@pytest.mark.parametrize("side", [8, 16, 24, 32])
def test_noise_in_the_means_and_spreads_of_pictures_is_noise(world, side):
    """Cells are shuffled, each channel by itself: every value is a picture's, no relation is."""
    drawn = encoded(world, [render(scene, side * 8, side * 8) for scene in sample_scenes(50, 4)])
    values = drawn.flatten(2)
    order = torch.rand(values.shape, generator=torch.Generator().manual_seed(1)).argsort(-1)
    shuffled = values.gather(-1, order).reshape(drawn.shape)
    assert looks_like_noise(shuffled, NATIVE).float().mean() >= (0.9 if side == 8 else 0.98)
    assert not looks_like_noise(drawn, NATIVE).any()
