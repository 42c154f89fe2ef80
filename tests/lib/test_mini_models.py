"""The shipped models of the mini world, held to the pixel oracle and to held-out captions."""

import numpy as np
import pytest
import torch

import lclip
from lclip.mini import load_world, oracle
from lclip.mini.drawing import render_batch, sample_scenes
from lclip.mini.scenes import COLOURS, LOOK_ALIKES, SHAPES, UNSAFE_SHAPE, canonical, caption
from lclip.mini.world import WEIGHTS

TEMPLATES = ("a {}", *(f"a {colour} {{}}" for colour in COLOURS))


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(500, seed=91, split="dev")


@pytest.fixture(scope="module")
def pixels(scenes):
    return torch.from_numpy(render_batch(scenes)).permute(0, 3, 1, 2).float() / 255.0


@pytest.fixture(scope="module")
def latents(world, pixels):
    with torch.no_grad():
        return world.encode(pixels)


def judged(world, latents, scenes):
    with torch.no_grad():
        pictures = world.decode(latents).permute(0, 2, 3, 1).numpy()
    return np.mean(
        [oracle.judge(picture, scene).correct for picture, scene in zip(pictures, scenes, strict=True)]
    )


def retrieval(model, images, scenes, ways=100):
    """Share of pictures that find their caption among `ways` that all say something else."""
    distinct = {}
    for index, scene in enumerate(scenes):
        distinct.setdefault(caption(canonical(scene.content)), index)
    chosen = list(distinct.values())
    chosen = chosen[: len(chosen) // ways * ways]
    with torch.no_grad():
        features = model.encode_latents(images[chosen])
        texts = model.encode_text([scenes[index].caption for index in chosen])
    cosine = (features @ texts.T).view(len(chosen), -1, ways)
    own = torch.arange(len(chosen)) // ways
    return (
        (cosine[torch.arange(len(chosen)), own].argmax(1) == torch.arange(len(chosen)) % ways).float().mean()
    )


def test_everything_shipped_is_small():
    files = list(WEIGHTS.glob("*.safetensors"))
    assert {file.stem for file in files} == {
        "vae", "generator", "latent_clip", "pixel_clip", "vae16", "generator16", "half", "alone",
    }  # fmt: skip
    assert sum(file.stat().st_size for file in files) < 12e6


def test_the_vae_keeps_what_the_oracle_sees(world, latents, scenes):
    assert latents.shape == (500, 4, 8, 8)
    assert judged(world, latents, scenes) >= 0.95


def test_raw_latents_have_the_scale_that_the_checks_expect(world, latents):
    assert 5.0 < latents.std() < 7.0
    config = world.latent_clip.config
    assert lclip.check_latents(latents, config, scale="refuse") is None
    assert "noise" in lclip.check_latents(torch.randn(4, 4, 8, 8), config)
    assert lclip.check_latents(latents[:8] * world.scale_factor, config) is not None


def test_the_vae_takes_any_size_and_refuses_odd_ones(world):
    picture = torch.rand(2, 3, 128, 64)
    assert world.decode(world.encode(picture)).shape == picture.shape
    with pytest.raises(ValueError, match="multiples of 8"):
        world.encode(torch.rand(1, 3, 60, 64))
    with pytest.raises(ValueError, match=r"\[B, 4"):
        world.decode(torch.rand(1, 16, 8, 8))


def test_retrieval_on_held_out_captions(world, latents, pixels, scenes):
    latent, pixel = retrieval(world.latent_clip, latents, scenes), retrieval(world.pixel_clip, pixels, scenes)
    assert latent >= 0.88  # 90 % is measured on 2,000 scenes; these are 400
    assert latent >= pixel - 0.05


def test_the_unsafe_concept_stands_out_from_its_look_alikes(world, latents, scenes):
    unsafe = torch.tensor([scene.content.unsafe for scene in scenes])
    alike = torch.tensor([bool(set(LOOK_ALIKES) & set(scene.content.shapes)) for scene in scenes]) & ~unsafe
    score = lclip.classify(world.latent_clip, latents, list(SHAPES), TEMPLATES)[:, SHAPES.index(UNSAFE_SHAPE)]
    higher = (score[unsafe][:, None] > score[alike]).float() + 0.5 * (score[unsafe][:, None] == score[alike])
    assert higher.mean() >= 0.9  # the aim is 0.98; benchmarks/RESULTS.md has what is measured


def test_the_presets_threshold_is_the_one_that_was_calibrated(world):
    """For one harmless picture in 20, drawn and generated, of training captions; these are held-out ones."""
    scenes = sample_scenes(800, 31, split="dev")
    with torch.no_grad():
        drawn = world.encode(torch.from_numpy(render_batch(scenes)).permute(0, 3, 1, 2).float() / 255.0)
    verdicts = lclip.SafetyPolicy.preset("mini").judge(world.latent_clip, drawn)
    blocked = {True: [], False: []}
    for scene, verdict in zip(scenes, verdicts, strict=True):
        blocked[scene.content.unsafe].append(not verdict.safe)
    caught, wrong = (float(np.mean(blocked[unsafe])) for unsafe in (True, False))
    assert caught > 0.89  # 0.95; at a threshold of 0.5 it is 0.82
    assert 0.005 < wrong < 0.06  # 0.03; at 0.5 none


def test_one_step_is_good_but_leaves_room(world, scenes):
    noise = torch.randn(len(scenes), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = world.generate([scene.caption for scene in scenes], noise)
    assert 0.35 <= judged(world, latents, scenes) <= 0.75


def test_many_steps_work_too(world, scenes):
    """The generator was made for one step; a schedule of many loses some of its accuracy, not all."""
    noise = torch.randn(200, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = world.generate([scene.caption for scene in scenes[:200]], noise, 12)
    assert judged(world, latents, scenes[:200]) >= 0.3


def test_the_generator_is_differentiable_in_the_noise(world):
    noise = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    double = world.denoiser.double()
    try:
        context = world.context(["a red circle", "two blue stars"], 2).double()
        t = torch.ones(2, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x: double(x, t, context).sum((1, 2, 3)), noise, atol=1e-4)
    finally:
        world.denoiser.float()


def test_each_predicted_picture_may_be_changed_on_the_way(world):
    noise, prompts = torch.randn(2, 4, 8, 8), ["a red circle", "two blue stars"]
    seen = []
    with torch.no_grad():
        plain = world.generate(prompts, noise, 3)
        same = world.generate(prompts, noise, 3, lambda x0: seen.append(x0) or x0)
        grey = world.generate(prompts, noise, 3, torch.zeros_like)
    torch.testing.assert_close(same, plain, rtol=1e-4, atol=1e-3)
    assert len(seen) == 3 and torch.equal(seen[-1] / world.scale_factor, same)
    assert not grey.any()


def test_a_batch_is_its_items(world):
    noise = torch.randn(3, 4, 8, 8)
    prompts = ["a red circle", "two blue stars on a black ground", "a small green ring"]
    with torch.no_grad():
        together = world.generate(prompts, noise, 2)
        alone = torch.cat([world.generate([prompts[i]], noise[i : i + 1], 2) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-3)


def test_wrong_calls_are_named(world):
    with pytest.raises(ValueError, match="2 prompts for a batch of 3"):
        world.generate(["a", "b"], torch.randn(3, 4, 8, 8))
    with pytest.raises(ValueError, match="64x64 pixels"):
        world.generate(["a"], torch.randn(1, 16, 8, 8))
    with pytest.raises(ValueError, match="steps"):
        world.generate(["a"], torch.randn(1, 4, 8, 8), steps=0)


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="install the pack again"):
        load_world(folder=tmp_path)
    (tmp_path / "vae.safetensors").write_bytes(b"not a file of weights")
    with pytest.raises(lclip.CheckpointError, match=r"vae\.safetensors"):
        load_world(folder=tmp_path)
