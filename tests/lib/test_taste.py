"""A taste is learnt from a few latents, says how well it knows it, and adds up with other rewards."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from test_rewards import latents, small_clip

import lclip
from lclip import ReNOSettings, RewardSum, TasteReward, TextReward, reno, train_taste
from lclip.mini.drawing import render_batch, sample_scenes
from lclip.rewards.discriminant import discriminant
from lclip.rewards.taste import Taste, TasteFigures, taste_inputs


@pytest.fixture
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def drawn(world):
    """Latents of single objects, and whether each is large, by the scene that was drawn."""
    scenes = [scene for scene in sample_scenes(600, 61, split="all") if scene.content.kind == "single"]
    pixels = torch.from_numpy(render_batch(scenes)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        z = torch.cat([world.encode(part) for part in pixels.split(100)])
    return z, np.array([scene.content.size == "large" for scene in scenes])


def test_ten_a_side_are_enough_for_a_plain_taste(world, drawn):
    z, large = drawn
    big, small = z[large], z[~large]
    taste = train_taste(world.latent_clip, big[:10], small[:10])
    values = [TasteReward(world.latent_clip, taste)(side[10:]) for side in (big, small)]
    new = np.mean([float((values[0] > 0).double().mean()), float((values[1] < 0).double().mean())])
    assert new > 0.85
    assert taste.figures.accuracy > 0.75
    assert taste.figures.liked == taste.figures.disliked == 10 and not taste.notes
    assert "10 liked and 10 disliked" in taste.text()


def test_what_the_examples_do_not_tell_apart_is_said(world, drawn):
    z, _ = drawn
    taste = train_taste(world.latent_clip, z[:12], z[12:24])
    low, high = taste.figures.interval().low, taste.figures.interval().high
    assert low <= 0.5 <= high
    assert "better than chance" in taste.text()


def test_a_taste_counts_about_as_much_as_a_text(world, drawn):
    z, large = drawn
    taste = train_taste(world.latent_clip, z[large][:20], z[~large][:20])
    spreads = [
        float(reward(z).std())
        for reward in (TasteReward(world.latent_clip, taste), TextReward(world.latent_clip, "a large star"))
    ]
    assert 1 / 3 < spreads[0] / spreads[1] < 3


def test_the_reward_is_weight_times_a_cosine_above_its_middle(clip):
    taste = train_taste(clip, latents(6, seed=1), latents(5, seed=2))
    assert float(taste.direction.norm()) == pytest.approx(0.01 * clip.logit_scale, rel=1e-5)
    z = latents(4, seed=3)
    cosine = torch.nn.functional.cosine_similarity(clip.encode_latents(z), taste.direction[None])
    wanted = -2.5 * (0.01 * clip.logit_scale * cosine + taste.bias)
    torch.testing.assert_close(TasteReward(clip, taste, -2.5)(z), wanted)


def test_gradient_equals_finite_differences(clip):
    clip = clip.double()
    reward = TasteReward(clip, train_taste(clip, latents(4).double(), latents(4, seed=2).double()))
    z = latents(2, seed=5).double()
    direction = torch.randn(z.shape, dtype=torch.float64)
    x = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reward(x).sum(), x)
    expected = (reward(z + 1e-4 * direction) - reward(z - 1e-4 * direction)) / 2e-4
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), expected, rtol=1e-4, atol=1e-10)


def test_reno_follows_it_beside_other_rewards(clip):
    with torch.inference_mode():  # as in a host
        own = TasteReward(clip, train_taste(clip, latents(5), latents(5, seed=2)), name="mine")
    total = RewardSum([TextReward(clip, "a red square"), own])
    noise = latents(2, seed=7) / 6
    result = reno(lambda x: 6 * x, noise, total, ReNOSettings(iterations=10, lr=50.0))
    assert (result.best_reward > total(6 * noise)).all()
    assert set(result.history[0].parts) == {"a red square", "mine"}


def test_one_broken_item_does_not_break_the_others(clip):
    reward = TasteReward(clip, train_taste(clip, latents(4), latents(4, seed=2)))
    z = latents(3, seed=3)
    whole = reward(z)
    z[1, 0, 0, 0] = math.nan
    assert math.isnan(reward(z)[1])
    torch.testing.assert_close(reward(z)[[0, 2]], whole[[0, 2]])


def sized(side, seed):
    return 6 * torch.randn(4, 4, side, side, generator=torch.Generator().manual_seed(seed))


def test_a_taste_records_the_size_rule_and_says_where_it_is_another(clip, caplog):
    clip.size_rule = "tiles"
    taste = train_taste(clip, sized(12, 1), sized(12, 2))
    assert taste.size_rule == "tiles" and "tiles" in taste.text()
    caplog.clear()
    assert TasteReward(clip, taste).size_rule == "tiles" and not caplog.records
    clip.size_rule = "resize"
    assert TasteReward(clip, taste).size_rule == "resize"
    assert "'tiles'" in caplog.text and "'resize'" in caplog.text


def test_the_size_rule_counts_as_an_input_where_it_was_used(clip):
    def inputs(rule, size):
        clip.size_rule = rule
        return taste_inputs(clip, sized(size, 1), sized(size, 2))

    assert inputs("tiles", 12) != inputs("resize", 12)
    assert inputs("tiles", 8) == inputs("resize", 8)


def test_batches_of_different_sizes_make_one_side(clip):
    liked, disliked = latents(6), latents(6, seed=2)
    whole = train_taste(clip, liked, disliked)
    parts = train_taste(clip, [liked[:2], liked[2:]], [disliked])
    torch.testing.assert_close(whole.direction, parts.direction)
    mixed = train_taste(clip, [liked, torch.nn.functional.interpolate(liked, (8, 12))], disliked)
    assert mixed.figures.liked == 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_picture_that_is_on_both_sides_is_refused(clip, dtype):
    liked, disliked = latents(4), latents(5, seed=2)
    disliked[3] = liked[1]
    with pytest.raises(ValueError, match="liked item 1 and disliked item 3 are the same picture"):
        train_taste(clip, liked, disliked.to(dtype).float())


def test_shared_pictures_are_named_by_their_place_across_batches(clip):
    liked, disliked = latents(4), latents(5, seed=2)
    disliked[4] = liked[3]
    with pytest.raises(ValueError, match="liked item 3 and disliked item 4"):
        train_taste(clip, [liked[:2], liked[2:]], [disliked[:3], disliked[3:]])


def test_a_picture_given_twice_counts_once(clip):
    liked, disliked = latents(5), latents(5, seed=2)
    once = train_taste(clip, liked, disliked)
    twice = train_taste(clip, [liked, liked[2:4]], torch.cat([disliked, disliked[:1]]))
    torch.testing.assert_close(once.direction, twice.direction)
    assert twice.figures == once.figures
    assert "3 pictures were given twice" in twice.text()


@pytest.mark.parametrize(("liked", "disliked"), [(1, 5), (5, 1), (1, 1)])
def test_fewer_than_two_a_side_are_refused(clip, liked, disliked):
    with pytest.raises(ValueError, match=r"there is 1 (dis)?liked picture; expected at least 2"):
        train_taste(clip, latents(liked), latents(disliked, seed=2))


def test_copies_of_one_picture_are_one_picture(clip):
    with pytest.raises(ValueError, match="there is 1 liked picture"):
        train_taste(clip, latents(1).repeat(5, 1, 1, 1), latents(4, seed=2))


@pytest.mark.parametrize(
    ("liked", "said"),
    [
        (torch.full((3, 4, 8, 8), math.nan), r"the liked latents, batch item 0, 1, 2 of 3: NaN"),
        (torch.ones(3, 16, 8, 8), "the liked latents have 16 channels"),
        (torch.ones(4, 8, 8), "the liked latents have 3 dimensions"),
        (torch.ones(0, 4, 8, 8), "the batch is empty"),
        ([], "there is 0 liked"),
    ],
)
def test_latents_that_cannot_be_read_are_refused_by_side(clip, liked, said):
    with pytest.raises(ValueError, match=said):
        train_taste(clip, liked, latents(3))


def test_another_model_is_refused_by_name(clip):
    taste = train_taste(clip, latents(3), latents(3, seed=2), name="mine", model_name="clip-a.safetensors")
    other = small_clip(1)
    with pytest.raises(ValueError, match=r"'mine' belongs to clip-a.safetensors .*got clip-b \("):
        TasteReward(other, taste, model_name="clip-b")
    narrow = small_clip(2, latent_space="sdxl")
    with pytest.raises(ValueError, match="the mini world's latents"):
        TasteReward(narrow, taste)


def test_a_head_without_a_model_must_at_least_fit(clip):
    TasteReward(clip, Taste(torch.ones(24), 0.0))
    with pytest.raises(ValueError, match="768 numbers; this Latent-CLIP .* gives 24"):
        TasteReward(clip, Taste(torch.ones(768), 0.0))


def test_accuracy_counts_both_sides_alike():
    figures = TasteFigures(liked=20, disliked=180, liked_right=10, disliked_right=180, shrinkage=0.5)
    assert figures.accuracy == 0.75


def test_the_interval_takes_left_out_examples_for_half_as_many_fresh_ones():
    interval = TasteFigures(20, 180, liked_right=10, disliked_right=180, shrinkage=0.5).interval()
    few, many = (binomtest(k, n).proportion_ci(method="wilson") for k, n in ((5, 10), (90, 90)))
    assert interval.low == pytest.approx(
        0.75 - ((0.5 - few.low) ** 2 + (1 - many.low) ** 2) ** 0.5 / 2, abs=1e-6
    )
    assert interval.high == pytest.approx(0.75 + (few.high - 0.5) / 2, abs=1e-6)


def test_the_interval_holds_the_true_accuracy_about_as_often_as_it_says():
    """Two normal clouds: a direction's true accuracy is known in closed form."""
    draw, normal, held = torch.Generator().manual_seed(5), NormalDist(), 0
    gap = torch.zeros(16).double()
    gap[0] = 0.8
    for _ in range(200):
        sides = [torch.randn(20, 16, generator=draw).double() + sign * gap for sign in (1, -1)]
        found = discriminant(*sides)
        right = [int((margins > 0).sum()) for margins in found.margins]
        size = float(found.direction.norm())
        centre, threshold = float(found.direction @ gap) / size, found.threshold / size
        true = (normal.cdf(centre - threshold) + normal.cdf(centre + threshold)) / 2
        interval = TasteFigures(20, 20, *right, found.shrinkage).interval()
        held += interval.low <= true <= interval.high
    assert held >= 0.92 * 200


def test_a_tower_tuned_on_preferences_is_a_text_reward_on_its_published_scale():
    """PickScore's loss in ReNO is 0.05 (30 - s cos): a Text Reward of weight 5, but for the constant."""
    tuned, plain = small_clip(3), small_clip(4)
    z = latents(3)
    text = "a red square"
    cosine = torch.nn.functional.cosine_similarity(tuned.encode_latents(z), tuned.encode_text([text]))
    both = RewardSum([TextReward(plain, text), TextReward(tuned, text, 5.0, "preference")])
    torch.testing.assert_close(both.parts(z)["preference"], 0.05 * tuned.logit_scale * cosine)


def test_names_are_part_of_the_library():
    for name in ("train_taste", "Taste", "TasteReward", "load_taste", "save_taste"):
        assert name in lclip.__all__
