"""What is asked of every reward."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lclip import RewardSum
from lclip.rewards.rewards import check_reward

from . import inputs


class RewardKind:
    """Inherit, say what it is (`of`) and how one is made; `make` is all that most rewards need.

    of: the reward's class. weighted: whether it takes a weight.
    """

    of: type
    weighted = True

    def make(self, model: Any, items: list[int], **weight: float) -> Any:
        """A reward that asks this model; items: which of the batch's items it is for, if it minds."""
        raise NotImplementedError

    def saved(self, reward: Any, model: Any, folder: Path) -> Any:
        """The reward after it was written and read; None where its kind is not kept in files."""
        return None

    @pytest.fixture
    def clip(self):
        return inputs.clip()

    def whole(self, model, **weight):
        return self.make(model, list(range(inputs.BATCH)), **weight)

    def test_it_is_what_it_says(self, clip):
        reward = self.whole(clip)
        assert type(reward) is self.of
        assert (reward.channels, reward.latent_space) == (4, "mini")
        assert isinstance(reward.name, str) and reward.name

    def test_a_batch_equals_its_items_one_by_one(self, clip):
        z = inputs.pictures()
        value = self.whole(clip)(z)
        check_reward("it", value, z)
        assert value.dtype == torch.float32 and len(value.unique()) == len(z)
        alone = [self.make(clip, [item])(z[item : item + 1]) for item in range(len(z))]
        torch.testing.assert_close(value, torch.cat(alone), atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize("dtype", inputs.HALF)
    def test_half_precision_latents_are_read_as_the_numbers_they_are(self, clip, dtype):
        z, reward = inputs.pictures().to(dtype), self.whole(clip)
        torch.testing.assert_close(reward(z), reward(z.float()), atol=1e-6, rtol=1e-5)
        x = z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(reward(x).sum(), x)
        assert gradient.dtype == dtype and bool((gradient != 0).flatten(1).any(1).all())

    @pytest.mark.parametrize("dtype", inputs.HALF)
    def test_half_precision_weights_change_little(self, clip, dtype):
        z = inputs.pictures()
        exact = self.whole(clip)(z)
        value = self.whole(inputs.clip().to(dtype))(z)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact, atol=0.02, rtol=0.1)

    def test_the_gradient_equals_finite_differences(self, clip):
        reward = self.whole(clip.double())
        found, expected = inputs.slope(reward, inputs.pictures().double())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)
        assert bool((expected != 0).all())

    def test_an_item_has_no_say_in_anothers_gradient(self, clip):
        z = inputs.pictures().requires_grad_()
        (gradient,) = torch.autograd.grad(self.whole(clip)(z)[1], z)
        assert bool(gradient[1].any()) and not bool(gradient[[0, 2]].any())

    @pytest.mark.parametrize("layout", inputs.LAYOUTS)
    def test_the_layout_in_memory_does_not_matter(self, clip, layout):
        z, reward = inputs.LAYOUTS[layout](inputs.pictures()), self.whole(clip)
        torch.testing.assert_close(reward(z), reward(z.clone(memory_format=torch.contiguous_format)))
        x = inputs.pictures().requires_grad_()
        (gradient,) = torch.autograd.grad(reward(inputs.LAYOUTS[layout](x)).sum(), x)
        assert bool(gradient.any())

    def test_nothing_is_written_into_the_latents(self, clip):
        z, reward = inputs.pictures(), self.whole(clip)
        z[1, 0, 0, 0] = math.nan
        before = z._version
        reward(z)
        assert z._version == before and int(z.isnan().sum()) == 1

    def test_the_same_latents_give_the_same_answer(self, clip):
        z, reward = inputs.pictures(), self.whole(clip)
        assert torch.equal(reward(z), reward(z.clone()))

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_broken_item_is_nan_and_the_others_are_as_they_were(self, clip, bad):
        z, reward = inputs.pictures(), self.whole(clip)
        good = reward(z)
        z[1, 2, 3, 4] = bad
        x = z.requires_grad_()
        value = reward(x)
        assert value.isnan().tolist() == [False, True, False]
        torch.testing.assert_close(value[[0, 2]], good[[0, 2]])
        (gradient,) = torch.autograd.grad(value[[0, 2]].sum(), x)
        assert bool(torch.isfinite(gradient).all()) and bool(gradient[0].any())

    @pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 20), (20, 6), (11, 13)])
    def test_other_sizes_are_read(self, clip, height, width):
        value = self.whole(clip)(inputs.pictures(height=height, width=width))
        assert bool(torch.isfinite(value).all())

    def test_one_that_was_made_in_inference_mode_gives_gradients(self, clip):
        with torch.inference_mode():
            reward = self.whole(clip)
        z = inputs.pictures().requires_grad_()
        (gradient,) = torch.autograd.grad(reward(z).sum(), z)
        assert bool((gradient != 0).flatten(1).any(1).all())

    @pytest.mark.parametrize("case", inputs.UNREADABLE)
    def test_what_cannot_be_read_is_refused_by_name(self, clip, case):
        change, word = inputs.UNREADABLE[case]
        with pytest.raises(ValueError, match=word):
            self.whole(clip)(change(inputs.pictures()))

    def test_a_weight_multiplies_and_must_be_a_finite_number(self, clip):
        if not self.weighted:
            return
        z = inputs.pictures()
        torch.testing.assert_close(self.whole(clip, weight=2.5)(z), 2.5 * self.whole(clip, weight=1.0)(z))
        for weight in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match="finite"):
                self.whole(clip, weight=weight)

    def test_it_adds_up_by_name(self, clip):
        z, reward = inputs.pictures(), self.whole(clip)
        total = RewardSum({"own": reward, "again": reward})
        torch.testing.assert_close(total(z), 2 * reward(z))
        assert all("own" in name or "again" in name for name in total.parts(z))
        other = self.whole(inputs.clip(latent_space="sdxl"))
        with pytest.raises(ValueError, match="sdxl"):
            RewardSum([reward, other])

    def test_saved_and_loaded_it_is_the_same(self, clip, tmp_path):
        reward = self.whole(clip)
        loaded = self.saved(reward, clip, tmp_path)
        if loaded is not None:
            assert loaded is not reward and torch.equal(loaded(inputs.pictures()), reward(inputs.pictures()))
