"""The heatmap points at what the text names, in pictures of the mini world whose places are known."""

import math

import pytest
import torch

import lclip
from lclip.latents.resampling import stitched, windows
from lclip.mini.drawing import render, sample_scenes
from lclip.mini.vae import MiniVAE
from lclip.mini.world import WEIGHTS, load_module

MODEL = WEIGHTS / "latent_clip.safetensors"
trained = pytest.mark.skipif(not MODEL.exists(), reason="the mini world's Latent-CLIP has not been trained")


def hits(width, height, size_rule=None):
    """How often the highest value lies in the thing that is named, in held-out scenes of two, so large."""
    model = lclip.load(MODEL)
    vae, _ = load_module(MiniVAE(), WEIGHTS / "vae.safetensors")
    scenes = [s for s in sample_scenes(300, 7, "dev") if s.content.kind == "pair"][:60]
    found = []
    for scene in (s for s in scenes if len({(o.shape, o.colour) for o in s.objects}) == 2):
        pixels = torch.from_numpy(render(scene, width, height)).permute(2, 0, 1)[None].float() / 127.5 - 1
        z = vae.encode(pixels)
        for thing in scene.objects:
            heat = lclip.heatmap(model, z, f"a {thing.colour} {thing.shape}", size_rule=size_rule)
            assert heat.shape[1:] == z.shape[-2:]
            row, column = divmod(int(heat.argmax()), heat.shape[-1])
            away = 8 * column + 4 - thing.x * width / 64, 8 * row + 4 - thing.y * height / 64
            found.append(math.hypot(*away) <= max(thing.radius, 6) * min(width, height) / 64)
    assert len(found) >= 60
    return sum(found) / len(found)


@trained
def test_the_highest_value_lies_in_the_named_object():
    """By chance 6 % would; the finished patch tokens reach 17 %, contributions 77 % (n = 400)."""
    assert hits(64, 64) > 0.6


@trained
@pytest.mark.parametrize("size", [(128, 128), (192, 96)], ids=str)
def test_larger_and_wider_pictures_are_shown_as_they_are_scored(size):
    """n = 120: by the default, fit, 92 %; by interpolate 86 and 89 %."""
    assert hits(*size) > 0.75


@pytest.mark.parametrize("rule", [*lclip.SIZE_RULES, None])
def test_a_heatmap_reads_by_the_models_rule(tiny_model, rule):
    """A patch has what its views find there: here of latents whose views meet at whole patches."""
    side, patch = tiny_model.config.native_size, tiny_model.config.patch_size
    z = 5 * torch.randn(2, 4, side, 2 * side, generator=torch.Generator().manual_seed(3))
    found = tiny_model.patch_embeddings(z, size_rule=rule)
    name = rule or tiny_model.size_rule
    if name in ("resize", "interpolate"):
        (view,) = lclip.SIZE_RULES[name](z, tiny_model.config).unbind(1)
        expected = tiny_model.patch_embeddings(view, size_rule="interpolate")
    else:
        views = lclip.SIZE_RULES[name](z, tiny_model.config)
        grid = side // patch
        total, times = torch.zeros(2, grid, 2 * grid, found.shape[-1]), torch.zeros(2 * grid, 1)
        for start, view in zip((0, grid // 2, grid), views.unbind(1), strict=True):
            total[:, :, start : start + grid] += tiny_model.patch_embeddings(view)
            times[start : start + grid] += 1
        expected = total / times
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    tiny_model.size_rule = name
    torch.testing.assert_close(tiny_model.patch_embeddings(z), found)
    with pytest.raises(ValueError, match="size rule is 'largest'"):
        lclip.heatmap(tiny_model, z, "a star", size_rule="largest")


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 13), (13, 8), (11, 29), (31, 9)])
def test_views_are_laid_where_they_were_taken(height, width):
    """What grows evenly across the picture grows evenly across the patches put together again."""
    down, across = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    seen = windows(torch.stack([down, across])[None], 8)  # [1, V, 2, 8, 8]
    patches = torch.nn.functional.avg_pool2d(seen[0], 2).permute(0, 2, 3, 1)[None]
    whole = stitched(patches, height, width, 8, 2)[0]
    for axis, length in enumerate((height, width)):
        count = round(length / 2)
        even = (torch.arange(count) + 0.5) * length / count
        shape = (-1, 1) if axis == 0 else (1, -1)
        assert whole.shape[axis] == count
        assert float((whole[..., axis] - even.view(shape)).abs().max()) <= 1.0  # half a patch


def test_contributions_pass_the_last_norm_with_its_weights(tiny_model):
    """The patches' parts and the class token's own add up to the embedding, whatever the norm's weights."""
    model = tiny_model
    generator = torch.Generator().manual_seed(5)
    weight = 0.2 + 2 * torch.rand(model.visual.ln_post.weight.shape, generator=generator)
    model.visual.ln_post.weight.data.copy_(weight)
    z = 6 * torch.randn(2, 4, 8, 8, generator=generator)
    parts = model.patch_embeddings(z, "contributions")
    x = model.visual.embed(z)
    own = x[:, :1].clone()  # of the class token: what it began as, what it attends to in itself, biases, MLPs
    for block in model.visual.transformer.resblocks:
        added = block.contributions(x)
        own = own + (block(x)[:, :1] - x[:, :1]) - added[:, 1:].sum(1, keepdim=True)
        x = block(x)
    first = x[:, :1]
    spread = (first.var(-1, correction=0, keepdim=True) + model.visual.ln_post.eps).sqrt()
    normed = (own - own.mean(-1, keepdim=True)) / spread * weight + model.visual.ln_post.bias
    length = model.visual.project(first).norm(dim=-1, keepdim=True)
    own = (normed @ model.visual.proj / length)[:, 0]
    torch.testing.assert_close(parts.sum((1, 2)) + own, model.encode_latents(z), atol=1e-5, rtol=1e-4)
