"""The heatmap points at what the text names, in pictures of the mini world whose places are known."""

import math

import pytest
import torch

import lclip
from lclip.mini.drawing import render_batch, sample_scenes
from lclip.mini.vae import MiniVAE
from lclip.mini.world import WEIGHTS, load_module

MODEL = WEIGHTS / "latent_clip.safetensors"


@pytest.mark.skipif(not MODEL.exists(), reason="the mini world's Latent-CLIP has not been trained")
def test_the_highest_value_lies_in_the_named_object():
    """By chance 6 % would; the finished patch tokens reach 17 %, contributions 77 % (n = 400)."""
    model = lclip.load(MODEL)
    vae, _ = load_module(MiniVAE(), WEIGHTS / "vae.safetensors")
    scenes = [s for s in sample_scenes(300, 7, "held-out") if s.content.kind == "pair"][:60]
    pixels = torch.from_numpy(render_batch(scenes)).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = vae.encode(pixels)
    hits = []
    for scene, z in zip(scenes, latents, strict=True):
        first, second = scene.objects
        if (first.shape, first.colour) == (second.shape, second.colour):
            continue
        for thing in scene.objects:
            best = int(lclip.heatmap(model, z[None], f"a {thing.colour} {thing.shape}").argmax())
            x, y = best % 8 * 8 + 4, best // 8 * 8 + 4
            hits.append(math.hypot(x - thing.x, y - thing.y) <= max(thing.radius, 6))
    assert len(hits) >= 60
    assert sum(hits) / len(hits) > 0.6


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
