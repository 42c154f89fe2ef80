"""The 16-channel twin: another VAE, a generator in its latents, and adapters between the two worlds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mini_stages import made_by

import lclip
from lclip.mini import load_twin, train
from lclip.mini.drawing import render, sample_scenes
from lclip.mini.oracle import judge
from lclip.mini.train_twin import make_ways
from lclip.mini.train_vae import to_pixels
from lclip.mini.vae import twin_vae
from lclip.mini.world import WEIGHTS

SCENES = 120


@pytest.fixture(scope="module")
def twin():
    return load_twin()


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(SCENES, 401, split="dev")


@pytest.fixture(scope="module")
def pixels(scenes):
    pictures = np.stack([render(scene) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def correct(pixels: torch.Tensor, scenes) -> float:
    pictures = pixels.permute(0, 2, 3, 1).numpy()
    return float(np.mean([judge(p, s).correct for p, s in zip(pictures, scenes, strict=True)]))


def test_its_vae_shows_what_was_drawn(twin, scenes, pixels):
    z = twin.encode(pixels)
    space = lclip.space_named("mini-16")
    assert z.shape == (SCENES, 16, 8, 8)
    assert float(z.std()) == pytest.approx(space.std, rel=0.1)
    assert float(z.mean()) == pytest.approx(space.shift, abs=0.1)
    assert (twin.latent_format.scale_factor, twin.latent_format.shift) == (space.scale, space.shift)
    assert correct(twin.decode(z), scenes) > 0.85


def test_its_latents_are_no_mixture_of_the_others(world, twin, pixels):
    """Of no 4-channel cell is the 16-channel one a linear function: it was trained, not derived."""
    x, y = (z.movedim(1, 0).flatten(1) for z in (world.encode(pixels), twin.encode(pixels)))
    x = torch.cat([x, torch.ones_like(x[:1])])
    error = y - torch.linalg.lstsq(x.T, y.T).solution.T @ x
    assert float(error.square().mean() / y.var()) > 0.2


def test_its_generator_shows_about_as_much_as_the_worlds(world, twin, scenes):
    captions = [scene.caption for scene in scenes]
    noise = torch.randn(SCENES, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    rest = torch.randn(SCENES, 16, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        native = correct(world.decode(world.generate(captions, noise)), scenes)
        lifted = twin.denoiser.ways.lift(noise, rest)
        other = {n: correct(twin.decode(twin.generate(captions, lifted, n)), scenes) for n in (1, 6)}
    assert native > 0.5 and other[1] > native - 0.1 and other[6] > 0.25, (native, other)


def test_lifted_noise_is_normal_and_is_taken_for_the_other(twin):
    noise = torch.randn(400, 4, 8, 8)
    lifted = twin.denoiser.ways.lift(noise, torch.randn(400, 16, 8, 8))
    flat = lifted.movedim(1, 0).flatten(1)
    torch.testing.assert_close(flat @ flat.T / flat.shape[1], torch.eye(16), atol=0.03, rtol=0)
    torch.testing.assert_close(
        torch.einsum("cd,bdhw->bchw", twin.denoiser.ways.mix, lifted), noise, atol=5e-3, rtol=0
    )


def test_noise_gets_a_gradient_through_the_twin(twin):
    noise = torch.randn(1, 16, 8, 8, requires_grad=True)
    twin.generate(["a red circle"], noise, 2).square().mean().backward()
    assert noise.grad is not None and bool(torch.isfinite(noise.grad).all()) and float(noise.grad.norm()) > 0


def test_other_sizes_are_refused(twin):
    with pytest.raises(ValueError, match="64x64 pixels"):
        twin.generate(["a red circle"], torch.randn(1, 16, 8, 16))
    with pytest.raises(ValueError, match=r"\[B, 16, h, w\]"):
        twin.decode(torch.randn(1, 4, 8, 8))


def test_a_short_training_already_reads_the_twin(world, twin, scenes, pixels):
    """Colours, judged by what was drawn: through the adapter nearly as often right as natively."""
    drawn = to_pixels(np.stack([render(scene) for scene in sample_scenes(150, 7, split="train")]))
    pictures = lclip.encode_pictures([(drawn + 1) / 2], twin.encode, world.encode)
    settings = lclip.AdapterSettings(steps=80, batch=16)
    adapter = lclip.train_adapter(world.latent_clip, lclip.space_named("mini-16"), pictures, settings)
    adapted = replace(twin, latent_clip=lclip.apply_adapter(world.latent_clip, adapter))
    captions = [scene.caption for scene in scenes]

    def found(each) -> float:
        cosines = lclip.similarity(each.latent_clip, each.encode(pixels), captions)
        own = torch.arange(SCENES)
        return float((cosines.argmax(1) == own).float().mean())

    native, through = found(world), found(adapted)
    assert through > 0.8 * native and adapter.figures.cosine > 0.9, (native, through)


@pytest.mark.parametrize("stage", ["vae16", "generator16"])
def test_every_stage_writes_its_file_and_the_same_again(stage, tmp_path, monkeypatch):
    """Two steps of each stage, on a handful of pictures, through the real command's functions; twice the
    same."""
    from lclip.mini import train_vae

    monkeypatch.setattr(train_vae, "SCENES", 40)
    monkeypatch.setattr(train_vae, "ENLARGED_SCENES", 2)
    monkeypatch.setattr(train, "TWIN_PAIRS", 140)
    for name in ("vae", "vae16", "generator"):
        (tmp_path / f"{name}.safetensors").write_bytes((WEIGHTS / f"{name}.safetensors").read_bytes())
    written = tmp_path / f"{stage}.safetensors"
    before = written.stat().st_mtime_ns if written.exists() else None
    first = made_by(stage, tmp_path, seed_before=1)
    assert written.stat().st_size > 100_000 and written.stat().st_mtime_ns != before
    second = made_by(stage, tmp_path, seed_before=2)
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())


def test_the_directions_are_orthonormal(world, pixels):
    torch.manual_seed(0)
    ways = make_ways(world.vae, twin_vae(), pixels * 2 - 1)
    torch.testing.assert_close(ways.mix @ ways.mix.T, torch.eye(4), atol=1e-5, rtol=0)
    assert float(ways.gain) > 0


def test_all_weights_together_stay_small():
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 12_000_000
