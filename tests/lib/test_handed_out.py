"""VAEs and renders of others may write into what they get, and answer with one buffer for ever, and who
watches may scribble: what is learnt, bridged, mapped, slid and raced stays the same.
"""

import pytest
import torch
import torch.nn.functional as F
from test_reno_buffers import both, one_buffer, overwriting

import lclip
from lclip.choosing.race import RaceRun
from lclip.choosing.slider import NoiseSlide
from lclip.exploring.blending import SphericalCorners

HABITS = pytest.mark.parametrize("habit", [overwriting, one_buffer, both])


def encode_source(pixels):
    return F.avg_pool2d(pixels, 8).repeat(1, 2, 1, 1)[:, :4]


def encode_target(pixels):
    return F.avg_pool2d(1 - pixels, 8).repeat(1, 6, 1, 1)[:, :16]


def decode_source(z):
    return F.interpolate(z[:, :3], scale_factor=8.0)


def pictures():
    return [torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


@HABITS
def test_pictures_are_encoded_the_same(habit):
    roles = [encode_source, encode_target, decode_source]
    expected = lclip.encode_pictures(pictures(), *roles[:2], decode_source=roles[2])
    given = pictures()
    got = lclip.encode_pictures(given, habit(roles[0]), habit(roles[1]), decode_source=habit(roles[2]))
    for field in ("source", "target", "picture", "through"):
        torch.testing.assert_close(getattr(got, field), getattr(expected, field))
    assert all(torch.equal(one, other) for one, other in zip(given, pictures(), strict=True))


@HABITS
def test_a_bridge_leads_to_the_same(habit):
    plain = lclip.bridge(decode_source, encode_target, "sd1.5", "flux", native=None)
    rude = lclip.bridge(habit(decode_source), habit(encode_target), "sd1.5", "flux", native=None)
    batches = [torch.rand(2, 4, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    kept = [z.clone() for z in batches]
    got = [rude(z) for z in batches]
    for z, unchanged, found in zip(batches, kept, got, strict=True):
        torch.testing.assert_close(found, plain(unchanged))
        assert torch.equal(z, unchanged)


def test_gradients_pass_a_bridge_whose_vaes_write_into_what_they_get():
    plain = lclip.bridge(decode_source, encode_target, "sd1.5", "flux", native=None)
    rude = lclip.bridge(
        lambda z: decode_source(z.mul_(2)) / 2, lambda x: encode_target(x.mul_(2) / 2), "sd1.5", "flux", None
    )
    gradients = []
    for way in (plain, rude):
        z = torch.rand(1, 4, 2, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
        gradients.append(torch.autograd.grad(way(z).square().sum(), z)[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_map_keeps_what_was_rendered(tiny_model):
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    corners = [SphericalCorners("noise", noise)]

    def stacked(cells):
        return torch.stack([cell["noise"] for cell in cells])

    found = [
        lclip.explore(render, corners, tiny_model, ["a statue"], side=4, at_once=1)
        for render in (stacked, one_buffer(stacked))
    ]
    torch.testing.assert_close(found[1].latents, found[0].latents)
    assert len({tuple(cell.flatten().tolist()) for cell in found[1].latents}) == 4


def test_who_watches_a_series_may_do_with_the_steps_as_he_likes(tiny_model):
    slider = lclip.SliderReward(tiny_model, "a statue", "blood")
    settings = lclip.SlideSettings(positions=3, low=-0.1, high=0.1, iterations=3)
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    found = []
    for scribble in (False, True):
        run = NoiseSlide(lambda noise: 5 * noise, start, slider, settings)
        for step in run:
            if scribble:
                step.latents.fill_(7.0)
        found.append(run.result())
    torch.testing.assert_close(found[1].latents, found[0].latents)
    torch.testing.assert_close(found[1].positions, found[0].positions)


def test_who_is_told_of_a_race_may_do_with_the_checks_as_he_likes():
    def scribble(check):
        check.rewards.fill_(-9.0)
        check.kept.fill_(False)

    latents, found = torch.randn(8, 4, 2, 2, generator=torch.Generator().manual_seed(5)), []
    for tell in (None, scribble):
        run = RaceRun(
            latents[:1], lambda z: z.mean((1, 2, 3)), lclip.RaceSettings(candidates=8, finish=1), tell=tell
        )
        for step in range(10):
            run.watch(step, 10, latents)
        leaders = run.leaders()
        found.append((leaders, run.result(latents)))
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(found[0][1].checks, found[1][1].checks, strict=True):
        torch.testing.assert_close(one.rewards, other.rewards, equal_nan=True)
        assert torch.equal(one.kept, other.kept)
