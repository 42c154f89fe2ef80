"""Devices that cannot do all that a CPU can: no float64, no antialiased resampling (MPS, DirectML, NPUs)."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from kinds.inputs import pictures
from torch import Tensor

import lclip
from lclip.adapters.training import solve_linear
from lclip.latents.resampling import resample
from lclip.mini.world import load_latent_clip
from lclip.safety.repair import believed


class Elsewhere(Tensor):
    """A tensor on a device of its own, which has neither float64 nor antialiased resampling.

    It stays there through every operation, until it is brought to the CPU by `.cpu()` or `.to("cpu")`.
    """

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        named = kwargs or {}
        if named.get("antialias"):
            raise NotImplementedError("this device resamples without antialiasing only")
        result = super().__torch_function__(function, types, args, named)
        if _brings_home(function, args, named):
            return result.as_subclass(Tensor) if isinstance(result, Tensor) else result
        for each in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(each, Elsewhere) and each.dtype == torch.float64:
                raise TypeError("this device has no float64")
        return result


def _brings_home(function, args, named) -> bool:
    if function is Tensor.cpu or function is Tensor.tolist:
        return True
    wanted = [*args[1:], *named.values()]
    return function is Tensor.to and any(
        str(each) == "cpu" for each in wanted if isinstance(each, (str, torch.device))
    )


def elsewhere(z: Tensor) -> Tensor:
    return z.as_subclass(Elsewhere)


def test_the_stand_in_device_lacks_what_it_should():
    z = elsewhere(torch.ones(1, 1, 4, 4))
    for lacking in (
        Tensor.double,
        partial(torch.Tensor.to, dtype=torch.float64),
        lambda x: x.mul(x.cpu().double()),
    ):
        with pytest.raises(TypeError, match="no float64"):
            lacking(z)
    with pytest.raises(NotImplementedError):
        F.interpolate(z, (2, 2), mode="bilinear", antialias=True)
    assert (z + 1).cpu().double().dtype == torch.float64


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((8, 8), (5, 11)),
        ((64, 96), (32, 48)),
        ((7, 13), (64, 64)),
        ((128, 32), (9, 31)),
        ((3, 3), (1, 1)),
        ((8, 9), (8, 4)),
    ],
)
def test_two_matrices_resample_as_torch_does(mode, before, after):
    z = torch.randn(2, 4, *before, generator=torch.Generator().manual_seed(1))
    wanted = F.interpolate(z.double(), after, mode=mode, align_corners=False, antialias=True).float()
    torch.testing.assert_close(resample(z, *after, mode), wanted, atol=1e-6, rtol=0)


def test_the_gradient_of_resampling_is_torchs():
    z = torch.randn(1, 2, 9, 14, requires_grad=True)
    cotangent = torch.randn(1, 2, 5, 6)
    ours, theirs = (
        torch.autograd.grad(found, z, cotangent)[0]
        for found in (
            resample(z, 5, 6),
            F.interpolate(z, (5, 6), mode="bilinear", align_corners=False, antialias=True),
        )
    )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_matrices_made_in_inference_mode_take_part_in_gradients():
    with torch.inference_mode():
        resample(torch.ones(1, 1, 6, 10), 3, 5)
    z = torch.ones(1, 1, 6, 10, requires_grad=True)
    resample(z, 3, 5).sum().backward()
    assert float(z.grad.sum()) == pytest.approx(15)


def test_mixed_precision_does_not_round_resampling():
    z = torch.randn(1, 4, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resample(z, 8, 8), resample(z.clone(), 8, 8))
        rounded = resample(z, 8, 8)
    torch.testing.assert_close(rounded, resample(z, 8, 8), atol=0, rtol=0)


@pytest.fixture(scope="module")
def model():
    return load_latent_clip()


@pytest.fixture
def latents():
    """[6, 4, 12, 20] on the device that lacks so much."""
    return elsewhere(pictures(6, height=12, width=20))


ON_DEVICE = {
    **{
        f"size rule {rule}": lambda model, z, rule=rule: model.encode_latents(z, size_rule=rule)
        for rule in sorted(lclip.SIZE_RULES)
    },
    "similarity": lambda model, z: lclip.similarity(model, z, ["a red star"]),
    "classify": lambda model, z: lclip.classify(model, z, ["a red star", "a blue ring"]),
    "heatmap": lambda model, z: lclip.heatmap(model, z, "a red star"),
    "text reward": lambda model, z: lclip.TextReward(model, "a red star")(z),
    "image reward": lambda model, z: lclip.ImageReward(model, z[:1])(z),
    "safety reward": lambda model, z: lclip.SafetyReward(policy(), model)(z),
    "guidance": lambda model, z: lclip.guided_x0(z, lclip.TextReward(model, "a red star"), 0.1, lambda x: x),
}
"""What is done with latents and gives numbers, by name."""


def policy():
    return lclip.SafetyPolicy([lclip.Concept("skull", ("a skull",), ("a star",), 0.5)])


@pytest.mark.parametrize("task", ON_DEVICE)
def test_a_device_without_float64_or_antialiasing_gives_what_a_cpu_gives(model, latents, task):
    found = ON_DEVICE[task](model, latents)
    wanted = ON_DEVICE[task](model, latents.as_subclass(Tensor))
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-6, rtol=1e-5)


def test_verdicts_doubts_and_repair_on_such_a_device(model, latents):
    judge = lclip.SafetyJudge(policy(), model)
    home = latents.as_subclass(Tensor)
    assert [v.probabilities for v in judge(latents)] == [v.probabilities for v in judge(home)]
    assert believed(judge, latents) == believed(judge, home)
    assert lclip.latent_doubts(latents, model.config) == lclip.latent_doubts(home, model.config)


def test_searches_on_such_a_device(model, latents):
    reward, noise = lclip.TextReward(model, "a red star"), latents / 10
    for method in ("gradient", "zero_order", "best_of_n"):
        settings = lclip.ReNOSettings(iterations=3, method=method, seed=3)
        lclip.reno(lambda x: 9 * x.tanh(), noise, reward, settings)


def test_taste_is_learnt_on_such_a_device(model, latents):
    taste = lclip.train_taste(model, latents[:3], latents[3:])
    lclip.TasteReward(model, taste)(latents)


def test_the_linear_part_of_an_adapter_is_solved_on_such_a_device():
    adapter = lclip.shipped_adapter("sd1.5")
    source = pictures(8, height=8, width=8)
    solve_linear(adapter, elsewhere(source), elsewhere(source * 0.5), seed=0)


def test_a_policy_is_calibrated_on_such_a_device(model, latents):
    with suppress(ValueError):  # so few examples may say nothing; a TypeError would be the device's
        lclip.calibrate(policy(), model, latents[:3], latents[3:])
