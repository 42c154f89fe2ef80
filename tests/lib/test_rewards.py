"""Text and image rewards are on ReNO's published scale, encode once, and add up by name."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tiny import random_model, tiny_config

from lclip import ImageReward, ReNOSettings, RewardSum, TextReward, reno

VOCABULARY = ["a", "red", "green", "square", "circle", "on", "blue"]


def small_clip(seed=0, **other):
    config = tiny_config(VOCABULARY, embed_dim=24, width=32, layers=2, heads=2, context_length=12, **other)
    return random_model(config, VOCABULARY, seed)


@pytest.fixture
def clip():
    return small_clip()


def latents(batch=3, channels=4, seed=1):
    return 6 * torch.randn(batch, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def cosine(model, z, text):
    return F.cosine_similarity(model.encode_latents(z), model.encode_text([text]))


def test_text_reward_is_the_negative_of_the_published_loss(clip):
    """ReNO's loss is 0.01 (100 - s cos); up to its constant the reward is the negative of it."""
    z = latents()
    loss = 0.01 * (100 - clip.logit_scale * cosine(clip, z, "a red square"))
    torch.testing.assert_close(TextReward(clip, "a red square")(z), 1 - loss)


def test_several_lines_are_averaged_and_empty_ones_are_no_lines(clip):
    z = latents()
    both = TextReward(clip, "a red square\n\n  a blue circle \n", weight=2.0)
    apart = [TextReward(clip, text)(z) for text in ("a red square", "a blue circle")]
    torch.testing.assert_close(both(z), 2.0 * (apart[0] + apart[1]) / 2)
    torch.testing.assert_close(TextReward(clip, ["a red square", "a blue circle"], 2.0)(z), both(z))


def test_a_negative_weight_drives_away(clip):
    z = latents(1)
    settings = ReNOSettings(iterations=15, lr=50.0)
    away = TextReward(clip, "a red square", weight=-1.0)
    result = reno(lambda x: 6 * x, z / 6, away, settings)
    assert cosine(clip, result.best_latents, "a red square") < cosine(clip, z, "a red square")


def test_image_reward_prefers_its_reference(clip):
    z = latents(4)
    reward = ImageReward(clip, z[2:3])
    assert int(reward(z).argmax()) == 2
    expected = 0.01 * clip.logit_scale
    assert float(reward(z)[2]) == pytest.approx(expected, rel=1e-5)
    two = ImageReward(clip, z[:2], weight=-0.5)
    mean = (
        F.cosine_similarity(clip.encode_latents(z)[:, None], clip.encode_latents(z[:2])[None], dim=-1)
    ).mean(1)
    torch.testing.assert_close(two(z), -0.5 * expected * mean)


def test_gradient_equals_finite_differences(clip):
    clip = clip.double()
    reward = TextReward(clip, "a green circle")
    z = latents(2).double()
    direction = torch.randn(z.shape, dtype=torch.float64)
    x = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reward(x).sum(), x)
    ahead, behind = reward(z + 1e-4 * direction), reward(z - 1e-4 * direction)
    expected = (ahead - behind) / 2e-4
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), expected, rtol=1e-4, atol=1e-10)


def test_text_is_encoded_once_per_reward(clip, monkeypatch):
    encoded = []
    original = clip.encode_text

    def counting(texts):
        encoded.append(list(texts))
        return original(texts)

    monkeypatch.setattr(clip, "encode_text", counting)
    reward = TextReward(clip, "a red square")
    reno(lambda x: 6 * x, latents(2) / 6, reward, ReNOSettings(iterations=6))
    assert encoded == [["a red square"]]


def test_rewards_made_in_inference_mode_still_give_gradients(clip):
    with torch.inference_mode():
        reward = RewardSum([TextReward(clip, "a red square"), ImageReward(clip, latents(1))])
    z = latents(2).requires_grad_()
    (gradient,) = torch.autograd.grad(reward(z).sum(), z)
    assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


def test_one_broken_item_does_not_break_the_others(clip):
    z = latents(3)
    whole = TextReward(clip, "a red square")(z)
    z[1, 0, 0, 0] = math.inf
    broken = TextReward(clip, "a red square")(z)
    assert math.isnan(broken[1])
    torch.testing.assert_close(broken[[0, 2]], whole[[0, 2]])


def test_sum_names_its_parts_and_flattens(clip):
    z = latents()
    red = TextReward(clip, "a red square", weight=2.0)
    away = TextReward(clip, "a green circle", weight=-1.0, name="no green")
    like = ImageReward(clip, latents(1, seed=5))
    total = RewardSum([RewardSum([red, away]), like, None, red])
    parts = total.parts(z)
    assert list(parts) == ["a red square", "no green", "reference", "a red square (2)"]
    torch.testing.assert_close(total(z), 2 * red(z) + away(z) + like(z))
    named = RewardSum({"first": red, "more": RewardSum([away])})
    assert list(named.parts(z)) == ["first", "more no green"]


def test_history_carries_the_parts(clip):
    reward = RewardSum([TextReward(clip, "a red square"), TextReward(clip, "a blue circle", weight=0.5)])
    result = reno(lambda x: 6 * x, latents(2) / 6, reward, ReNOSettings(iterations=4))
    for record in result.history:
        torch.testing.assert_close(
            record.parts["a red square"] + record.parts["a blue circle"], record.reward
        )


def test_weights_of_zero_drop_out(clip):
    silent = TextReward(clip, "a red square", weight=0.0)
    loud = TextReward(clip, "a blue circle")
    assert list(RewardSum([silent, loud]).parts(latents())) == ["a blue circle"]
    with pytest.raises(ValueError, match="every part has weight 0"):
        RewardSum([silent, silent])(latents())
    with pytest.raises(ValueError, match="every part has weight 0"):
        reno(lambda x: x, latents(1), silent)


def test_rewards_of_different_models_mix_if_they_read_the_same_latents():
    z = latents()
    first, second = (
        TextReward(small_clip(1), "a red square"),
        TextReward(small_clip(2, patch_size=1), "a circle"),
    )
    torch.testing.assert_close(RewardSum([first, second])(z), first(z) + second(z))
    other = TextReward(small_clip(3, channels=16, latent_space="wide"), "a red square")
    with pytest.raises(ValueError, match=r"mini latents \(4 channels\).*wide latents \(16 channels\)"):
        RewardSum([first, other])
    with pytest.raises(ValueError, match="sdxl"):
        RewardSum([first, TextReward(small_clip(4, latent_space="sdxl"), "a circle")])


@pytest.mark.parametrize("text", ["", "  \n\t\n", [], ["", " "]])
def test_empty_text_is_refused(clip, text):
    with pytest.raises(ValueError, match="text is empty"):
        TextReward(clip, text)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_weights_must_be_finite(clip, weight):
    with pytest.raises(ValueError, match="expected a finite number"):
        TextReward(clip, "a red square", weight=weight)


@pytest.mark.parametrize(
    "reference",
    [torch.zeros(0, 4, 8, 8), torch.zeros(1, 16, 8, 8), torch.zeros(4, 8, 8), torch.zeros(1, 4, 2, 8, 8)],
)
def test_references_of_a_wrong_shape_are_refused(clip, reference):
    with pytest.raises(ValueError, match=r"The reference latents .*\[images, 4, height, width\]"):
        ImageReward(clip, reference)


def test_references_that_are_not_finite_are_refused(clip):
    with pytest.raises(ValueError, match="NaN or infinite"):
        ImageReward(clip, torch.full((1, 4, 8, 8), math.nan))


@given(
    batch=st.integers(1, 4),
    height=st.integers(2, 20),
    width=st.integers(2, 20),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_any_size_and_precision_gives_one_finite_number_per_item(batch, height, width, dtype):
    z = (6 * torch.randn(batch, 4, height, width)).to(dtype)
    value = TextReward(small_clip(), "a red square")(z)
    assert value.shape == (batch,)
    assert torch.isfinite(value).all()
