"""One item with NaN or infinity costs that item alone; a batch of nothing else is refused."""

import pytest
import torch

import lclip
from lclip.latents.items import item_by_item
from lclip.latents.spaces import LatentSpace
from lclip.rewards.taste import taste_inputs

BAD = (float("nan"), float("inf"), float("-inf"))


@pytest.fixture(scope="module")
def z(world):
    noise = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return world.generator(["a red star", "a blue ring", "a cross", "a red circle", "a square"])(
        noise
    ).detach()


def broken(z: torch.Tensor, item: int, value: float = BAD[0]) -> torch.Tensor:
    """The same batch with one bad cell in one item."""
    z = z.clone()
    z[item, 2, 3, 4] = value
    return z


ASKS = {
    "encode_latents": lambda world, z: world.latent_clip.encode_latents(z),
    "patch_embeddings": lambda world, z: world.latent_clip.patch_embeddings(z),
    "similarity": lambda world, z: lclip.similarity(world.latent_clip, z, ["a star", "a ring"]),
    "tiles": lambda world, z: lclip.similarity(world.latent_clip, z, ["a star"], size_rule="tiles"),
    "classify": lambda world, z: lclip.classify(world.latent_clip, z, ["star", "ring"]),
    "heatmap": lambda world, z: lclip.heatmap(world.latent_clip, z, "a star"),
}
REWARDS = {
    "text": lambda world, z: lclip.TextReward(world.latent_clip, "a star")(z),
    "image": lambda world, z: lclip.ImageReward(world.latent_clip, torch.nan_to_num(z[:1]))(z),
    "safety": lambda world, z: lclip.SafetyReward(lclip.SafetyPolicy.preset("mini"), world.latent_clip)(z),
    "sum": lambda world, z: lclip.RewardSum(
        [lclip.TextReward(world.latent_clip, text) for text in ("a star", "a ring")]
    )(z),
}


@pytest.mark.parametrize("ask", [*ASKS, *REWARDS])
@pytest.mark.parametrize("value", BAD)
def test_the_others_are_answered_as_without_it(world, z, ask, value):
    answer = {**ASKS, **REWARDS}[ask]
    given = z[:, :, :6] if ask == "tiles" else z
    got, wanted = answer(world, broken(given, 2, value)), answer(world, given)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(got[others], wanted[others])
    assert bool(got[2].isnan().all()) and bool(wanted.isfinite().all())


@pytest.mark.parametrize("ask", ASKS)
def test_a_batch_of_nothing_else_is_refused(world, z, ask):
    bad = torch.stack([broken(z, 0)[0], broken(z, 1, BAD[1])[1]])
    with pytest.raises(ValueError, match="item 0, 1 of 2: NaN or infinity"):
        ASKS[ask](world, bad)


@pytest.mark.parametrize("ask", REWARDS)
def test_a_reward_of_nothing_else_is_nan_so_that_a_search_can_go_on(world, z, ask):
    assert bool(REWARDS[ask](world, broken(z, 0)[:1]).isnan().all())


@pytest.mark.parametrize("ask", [*ASKS, *REWARDS])
def test_the_others_gradients_stay_as_they_were(world, z, ask):
    answer, gradients = {**ASKS, **REWARDS}[ask], []
    for batch in (z, broken(z, 2)):
        asked = batch.clone().requires_grad_()
        found = answer(world, asked)[[0, 1, 3, 4]]
        gradients.append(torch.autograd.grad((found * found.detach().cos()).sum(), asked)[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_item_by_item_shows_zeros_and_asks_once():
    calls = []

    def answer(z):
        calls.append(z)
        return z.sum((1, 2))

    z = torch.tensor([[[1.0, 2.0]], [[float("nan"), 1.0]]])
    assert torch.equal(item_by_item(answer, z), torch.tensor([3.0, float("nan")])) is False  # NaN is unequal
    found = item_by_item(answer, z)
    assert found[0] == 3 and bool(found[1].isnan())
    assert len(calls) == 2 and torch.equal(calls[0][1], torch.zeros(1, 2))
    assert item_by_item(answer, z[:1]) == 3 and calls[-1] is not None


def test_what_is_broken_is_returned_in_words_and_logged(world, z, caplog):
    text = lclip.check_latents(broken(z, 3), world.latent_clip.config)
    assert "batch item 3 of 5: NaN or infinity" in text and "worst of the batch" in text
    assert text in caplog.text
    assert lclip.check_latents(z, world.latent_clip.config) is None
    both = lclip.check_latents(torch.cat([broken(z, 3), z[:1] * 0.05]), world.latent_clip.config)
    assert "item 3 of 6: NaN" in both and "item 5 of 6" in both


@pytest.mark.parametrize("method", ["gradient", "best_of_n", "zero_order"])
def test_a_search_improves_the_others(world, method):
    """A generator that overflows on one of the pictures, as fp16 VAEs and UNets do."""
    generate = world.generator(["a red star", "a blue ring", "a cross"])
    reward = lclip.TextReward(world.latent_clip, "a red star")

    def overflowing(noise):
        found = generate(noise)
        return torch.cat([found[:1], found[1:2] * float("inf"), found[2:]])

    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(6))
    settings = lclip.ReNOSettings(iterations=6, method=method)
    result = lclip.reno(overflowing, noise, reward, settings)
    plain = lclip.reno(generate, noise, reward, settings)
    assert bool(result.best_reward[1].isnan())
    torch.testing.assert_close(result.best_reward[[0, 2]], plain.best_reward[[0, 2]], atol=1e-4, rtol=0)
    assert bool((result.best_reward >= result.initial_reward)[[0, 2]].all())


def test_a_broken_reference_is_left_out(world, z, caplog):
    reward = lclip.ImageReward(world.latent_clip, broken(z, 1))
    torch.testing.assert_close(reward(z), lclip.ImageReward(world.latent_clip, z[[0, 2, 3, 4]])(z))
    assert "item 1 of 5: NaN" in caplog.text
    with pytest.raises(ValueError, match="The reference latents hold NaN"):
        lclip.ImageReward(world.latent_clip, broken(z, 1)[1:2])


def test_a_taste_learns_from_the_others_and_says_so(world, z):
    more = z + 0.5 * torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    taste = lclip.train_taste(world.latent_clip, broken(z, 1), more)
    wanted = lclip.train_taste(world.latent_clip, z[[0, 2, 3, 4]], more)
    assert torch.equal(taste.direction, wanted.direction) and taste.figures.liked == 4
    assert any("1 of the pictures hold NaN or infinity" in note for note in taste.notes)
    assert not any("NaN" in note for note in wanted.notes)
    assert taste_inputs(world.latent_clip, broken(z, 1), more) == taste.trained_from != wanted.trained_from
    split = lclip.train_taste(world.latent_clip, [broken(z, 1)[1:2], z[[0, 2, 3, 4]]], more)
    assert torch.equal(split.direction, wanted.direction)
    with pytest.raises(ValueError, match="the liked latents, batch item 0, 1 of 2: NaN"):
        lclip.train_taste(world.latent_clip, torch.full((2, 4, 8, 8), float("nan")), more)
    with pytest.raises(ValueError, match="there is 1 liked picture"):
        lclip.train_taste(world.latent_clip, broken(z, 1)[:2], more)


def test_thresholds_are_calibrated_by_the_others(world, z, caplog):
    policy = lclip.SafetyPolicy.preset("mini")
    safe, unsafe = torch.cat([z, z + 0.1]), torch.cat([z - 0.1, z - 0.2])
    found = lclip.calibrate(policy, world.latent_clip, broken(safe, 3), broken(unsafe, 0))
    kept = [i for i in range(10) if i != 3]
    wanted = lclip.calibrate(policy, world.latent_clip, safe[kept], unsafe[1:])
    assert found.policy.to_json() == wanted.policy.to_json()
    assert (found.safe_count, found.unsafe_count) == (9, 9)
    assert sum("NaN or infinity" in warning for warning in found.warnings) == 2
    with pytest.raises(ValueError, match="the safe examples.*NaN or infinity"):
        lclip.calibrate(policy, world.latent_clip, torch.full_like(safe, float("nan")), unsafe)


def test_an_adapter_learns_from_the_other_pictures(world, caplog):
    torch.manual_seed(3)
    source = LatentSpace("sixteen", "latents of 16 channels", 16, 8, None, None)
    wide = torch.randn(12, 16, 8, 8)
    real = world.generator(["a star"] * 12)(torch.randn(12, 4, 8, 8)).detach()
    numbers, settings = torch.arange(12), lclip.AdapterSettings(steps=3, batch=4)
    bad = lclip.EncodedPictures(broken(wide, 5), broken(real, 7), numbers)
    kept = [i for i in range(12) if i not in (5, 7)]
    fewer = lclip.EncodedPictures(wide[kept], real[kept], torch.arange(10))
    found, wanted = (lclip.train_adapter(world.latent_clip, source, p, settings) for p in (bad, fewer))
    assert found.figures.pictures == 10 and "2 of 12 pictures are left out" in caplog.text
    torch.testing.assert_close(found(wide), wanted(wide))
    with pytest.raises(ValueError, match="NaN or infinity"):
        everything = lclip.EncodedPictures(wide * float("nan"), real, numbers)
        lclip.train_adapter(world.latent_clip, source, everything, settings)
