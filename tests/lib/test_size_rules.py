"""Size rules: identity at the native size, whole cover, aspect ratio, gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lclip
from lclip.latents.size_rules import SIZE_RULES, size_rule_named

CONFIG = lclip.LatentCLIPConfig(8, 4, 2, 4, 8, 1, 1, 8, 1, 1, 4, 8)
SIDE = CONFIG.native_size
sides = st.integers(CONFIG.patch_size, 4 * SIDE)


@pytest.mark.parametrize("rule", SIZE_RULES)
def test_identity_at_the_native_size(rule, tiny_model):
    z = torch.randn(3, 4, SIDE, SIDE)
    assert torch.equal(SIZE_RULES[rule](z, CONFIG), z[:, None])
    assert torch.equal(tiny_model.encode_latents(z, rule), tiny_model.encode_latents(z))


@given(sides, sides, st.integers(1, 3))
def test_views(height, width, batch):
    z = torch.randn(batch, 4, height, width)
    for name, rule in SIZE_RULES.items():
        views = rule(z, CONFIG)
        assert views.shape[0] == batch and views.shape[2] == 4
        if name == "interpolate":
            assert all(n % CONFIG.patch_size == 0 for n in views.shape[-2:])
            assert all(
                abs(n - m) < CONFIG.patch_size for n, m in zip(views.shape[-2:], (height, width), strict=True)
            )
        else:
            assert views.shape[-2:] == (SIDE, SIDE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", SIZE_RULES)
def test_half_precision_resamples_as_float32_does(rule, dtype):
    z = torch.randn(2, 4, 11, 15).to(dtype)
    views = SIZE_RULES[rule](z, CONFIG)
    assert views.dtype == dtype
    torch.testing.assert_close(views.float(), SIZE_RULES[rule](z.float(), CONFIG), rtol=1e-2, atol=1e-2)


@given(sides, sides)
def test_every_cell_reaches_the_model(height, width):
    z = torch.randn(1, 4, height, width, requires_grad=True)
    for rule in SIZE_RULES.values():
        (gradient,) = torch.autograd.grad((rule(z, CONFIG) * torch.rand(1)).sum(), z)
        assert bool((gradient.abs().sum(1) > 0).all())


@given(sides, sides)
def test_a_plain_colour_stays_as_it_is(height, width):
    """By every rule that resamples; a learned map gives what a VAE would make of it."""
    z = torch.tensor([1.0, -2.0, 3.0, 0.5]).view(1, 4, 1, 1).expand(1, 4, height, width)
    for rule in (rule for name, rule in SIZE_RULES.items() if name != "fit"):
        views = rule(z, CONFIG)
        torch.testing.assert_close(views, z[:, None, :, :1, :1].expand_as(views))


def test_number_of_views():
    def views(rule, height, width):
        return SIZE_RULES[rule](torch.zeros(1, 4, height, width), CONFIG).shape[1]

    assert views("crops", 2 * SIDE, 2 * SIDE) == 1
    assert views("crops", SIDE, 2 * SIDE) == views("crops", 4 * SIDE, 2 * SIDE) == 3
    assert views("tiles", 2 * SIDE, 2 * SIDE) == 9
    assert views("tiles", SIDE // 2, SIDE // 2) == 1


def test_the_embedding_of_several_views_is_their_normalised_mean(tiny_model):
    z = torch.randn(2, 4, SIDE, 2 * SIDE)
    views = SIZE_RULES["crops"](z, tiny_model.config)
    each = torch.stack([tiny_model.encode_latents(views[:, i]) for i in range(views.shape[1])])
    expected = torch.nn.functional.normalize(each.mean(0), dim=-1)
    torch.testing.assert_close(tiny_model.encode_latents(z, "crops"), expected, atol=1e-6, rtol=0)


def test_own_rules_and_unknown_names(tiny_model):
    z = torch.randn(1, 4, 2 * SIDE, 2 * SIDE)
    corner = tiny_model.encode_latents(z, lambda latents, config: latents[:, None, :, :SIDE, :SIDE])
    assert torch.equal(corner, tiny_model.encode_latents(z[..., :SIDE, :SIDE]))
    with pytest.raises(ValueError, match="stretch.*expected one of resize"):
        size_rule_named("stretch")
