"""One frame of a video model's latents, [B, C, 1, h, w], is a picture to all that reads latents."""

import pytest
import torch

import lclip
from lclip.latents.frames import as_pictures, in_form_of, why_no_pictures
from lclip.latents.neutral import neutral_latents
from lclip.latents.spaces import LATENT_SPACES, LatentSpace

PICTURE, FRAME, VIDEO = (2, 4, 8, 6), (2, 4, 1, 8, 6), (2, 4, 5, 8, 6)
POLICY = lclip.SafetyPolicy.preset("mini")


@pytest.fixture(scope="module")
def z(world):
    return world.generator(["a red star", "a blue ring", "a red skull"])(
        torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ).detach()


def test_forms():
    picture, frame, video = torch.randn(PICTURE), torch.randn(FRAME), torch.randn(VIDEO)
    assert as_pictures(frame).shape == PICTURE and as_pictures(frame).data_ptr() == frame.data_ptr()
    assert as_pictures(picture) is picture and as_pictures(video) is video
    for like in (picture, frame):
        for given in (picture, frame):
            assert in_form_of(given, like).shape == like.shape
            assert torch.equal(in_form_of(given, like.shape).flatten(), given.flatten())
    assert why_no_pictures(picture) is None and why_no_pictures(frame) is None
    assert "5 frames" in why_no_pictures(video) and "z[" not in why_no_pictures(video)
    assert "sound" in why_no_pictures(torch.zeros(1, 64, 99))


ASKS = {
    "encode_latents": lambda world, z: world.latent_clip.encode_latents(z),
    "patch_embeddings": lambda world, z: world.latent_clip.patch_embeddings(z),
    "similarity": lambda world, z: lclip.similarity(world.latent_clip, z, ["a star", "a ring"]),
    "classify": lambda world, z: lclip.classify(world.latent_clip, z, ["star", "ring"]),
    "heatmap": lambda world, z: lclip.heatmap(world.latent_clip, z, "a star"),
    "text reward": lambda world, z: lclip.TextReward(world.latent_clip, "a star")(z),
    "image reward": lambda world, z: lclip.ImageReward(world.latent_clip, z[:1])(z),
    "reward sum": lambda world, z: lclip.RewardSum([lclip.TextReward(world.latent_clip, "a star")])(z),
    "safety reward": lambda world, z: lclip.SafetyReward(POLICY, world.latent_clip)(z),
    "judge": lambda world, z: lclip.SafetyJudge(POLICY, world.latent_clip).probabilities(z),
    "all views": lambda world, z: lclip.SafetyJudge(
        POLICY.changed(augmentations=("whole", "mirror", "corners")), world.latent_clip
    ).probabilities(z),
    "resize": lambda world, z: world.latent_clip.encode_latents(z, "resize"),
    "tiles": lambda world, z: world.latent_clip.encode_latents(z, "tiles"),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("size", [(8, 8), (11, 7)])
def test_a_frame_is_read_as_the_picture_that_it_is(world, z, ask, size):
    z = torch.nn.functional.interpolate(z, size)
    wanted = ASKS[ask](world, z)
    assert torch.equal(ASKS[ask](world, z.unsqueeze(2)), wanted)
    with pytest.raises(ValueError, match="video latents, 2 frames"):
        ASKS[ask](world, torch.stack([z, z], 2))


def test_gradients_come_back_in_the_form_of_the_frame(world, z):
    reward = lclip.TextReward(world.latent_clip, "a star")
    gradients = []
    for form in (z, z.unsqueeze(2)):
        asked = form.clone().requires_grad_()
        gradients.append(torch.autograd.grad(reward(asked).sum(), asked)[0])
    assert gradients[1].shape == (3, 4, 1, 8, 8) and torch.equal(gradients[1].squeeze(2), gradients[0])


def test_verdicts_are_those_of_the_pictures(world, z):
    judge = lclip.SafetyJudge(POLICY, world.latent_clip)
    noise = torch.randn(1, 4, 8, 8) * 0.1
    batch = torch.cat([z, noise, torch.full_like(noise, torch.nan)])
    assert [str(verdict) for verdict in judge(batch.unsqueeze(2))] == [
        str(verdict) for verdict in judge(batch)
    ]


def test_checks_and_doubts_are_those_of_the_pictures(world, z):
    config = world.latent_clip.config
    assert lclip.check_latents(z.unsqueeze(2), config) is None
    small = 0.05 * z
    assert lclip.scale_doubt(small.unsqueeze(2), config) == lclip.scale_doubt(small, config) is not None


def test_guidance_and_search_give_frames_back(world, z):
    reward = lclip.TextReward(world.latent_clip, "a star")
    moved = lclip.guided_x0(z.unsqueeze(2), reward, 0.1)
    assert torch.equal(moved, lclip.guided_x0(z, reward, 0.1).unsqueeze(2))
    generate = world.generator(["a red star"])
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    results = [
        lclip.reno(
            lambda n: in_form_of(generate(as_pictures(n)), n), form, reward,
            lclip.ReNOSettings(iterations=4, candidates=2),
        )
        for form in (noise, noise.unsqueeze(2))
    ]  # fmt: skip
    assert results[1].best_latents.shape == results[1].best_noise.shape == (2, 4, 1, 8, 8)
    torch.testing.assert_close(results[1].best_latents.squeeze(2), results[0].best_latents)
    torch.testing.assert_close(results[1].best_reward, results[0].best_reward)


def test_a_taste_learns_from_frames_and_knows_its_pictures_in_either_form(world, z):
    more = z + 0.5 * torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    plain = lclip.train_taste(world.latent_clip, z, more)
    framed = lclip.train_taste(world.latent_clip, z.unsqueeze(2), [more[:1], more[1:].unsqueeze(2)])
    torch.testing.assert_close(plain.direction, framed.direction)
    with pytest.raises(ValueError, match="liked item 1 and disliked item 0 are the same picture"):
        lclip.train_taste(world.latent_clip, z, z[1:].unsqueeze(2))


def test_thresholds_are_calibrated_by_frames(world, z):
    safe = torch.cat([z[:2], z[:2] + 0.1, z[:2] - 0.1])
    plain, framed = (
        lclip.calibrate(
            POLICY, world.latent_clip, *(part if form else part.unsqueeze(2) for part in (safe, z))
        )
        for form in (True, False)
    )
    assert framed.policy.to_json() == plain.policy.to_json()


@pytest.mark.parametrize("space", ["sdxl", "mini"])
def test_grey_has_the_form_that_is_asked_for(space):
    plain, framed = neutral_latents(space, (2, 4, 8, 8)), neutral_latents(space, (2, 4, 1, 8, 8))
    assert framed.shape == (2, 4, 1, 8, 8) and torch.equal(framed.squeeze(2), plain)
    with pytest.raises(ValueError, match=r"\[2, 4, 3, 8, 8\]"):
        neutral_latents(space, (2, 4, 3, 8, 8))


def test_an_adapter_maps_frames_and_learns_from_them(world):
    torch.manual_seed(3)
    source = LatentSpace("wan-like", "Wan-like latents", 16, 8, None, None)
    target = LATENT_SPACES["mini"]
    wide = torch.randn(12, 16, 8, 8)
    real = world.generator(["a star"] * 12)(torch.randn(12, 4, 8, 8)).detach()
    numbers = torch.arange(12)
    found = []
    for form in (wide, wide.unsqueeze(2)):
        pictures = lclip.EncodedPictures(form, real, numbers)
        settings = lclip.AdapterSettings(steps=3, batch=4)
        found.append(lclip.train_adapter(world.latent_clip, source, pictures, settings))
    assert found[0].target == target
    plain = found[0](wide)
    torch.testing.assert_close(found[1](wide.unsqueeze(2)), plain)
    assert plain.shape == (12, 4, 8, 8)
    adapted = lclip.apply_adapter(world.latent_clip, found[0])
    torch.testing.assert_close(adapted.encode_latents(wide.unsqueeze(2)), adapted.encode_latents(wide))
    encoded = lclip.encode_pictures(
        [torch.rand(2, 3, 64, 64)], lambda p: wide[:2].unsqueeze(2), lambda p: real[:2]
    )
    assert encoded.source.shape == (4, 16, 8, 8)
