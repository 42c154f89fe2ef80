"""What is asked of every sampler: whatever searches noise for pictures that a reward likes better."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reno_worlds import mixing_generator, noise, quadratic_reward

from lclip import ReNORun, ReNOSettings, reno

from . import inputs

GOAL = torch.linspace(-2, 2, 4).reshape(4, 1, 1).expand(4, 8, 8)
REWARD = quadratic_reward(GOAL)


class SamplerKind:
    """Inherit and say which method (`of`, its name in METHODS).

    settings: of a search that gains something. differentiates: whether it needs the generator's gradient.
    """

    of: str
    differentiates = False
    settings = ReNOSettings(iterations=8, seed=3)

    @property
    def search(self) -> ReNOSettings:
        return replace(self.settings, method=self.of)

    def run(self, x, generate=mixing_generator, reward=REWARD, **changes):
        return reno(generate, x, reward, replace(self.search, **changes))

    def test_it_gains_and_says_what_it_found(self):
        x = noise(inputs.BATCH)
        result = self.run(x)
        assert bool((result.best_reward > result.initial_reward).all())
        assert torch.equal(result.initial_latents, mixing_generator(x))
        torch.testing.assert_close(result.best_latents, mixing_generator(result.best_noise))
        torch.testing.assert_close(result.best_reward, REWARD(result.best_latents))
        every = torch.stack([record.reward for record in result.history])
        torch.testing.assert_close(result.best_reward, every.amax(0))

    def test_it_renders_as_often_as_it_says(self):
        calls = []
        self.run(noise(2), lambda x: (calls.append(len(x)), mixing_generator(x))[1])
        assert calls == [2] * self.search.renders

    def test_a_batch_equals_its_items_one_by_one(self):
        x = noise(inputs.BATCH)
        whole = self.run(x)
        for item in range(len(x)):
            alone = self.run(x[item : item + 1], places=(item,))
            torch.testing.assert_close(alone.best_noise[0], whole.best_noise[item], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(alone.best_reward[0], whole.best_reward[item], atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_noise_of_any_precision_is_searched_in_float32_or_better(self, dtype):
        x = noise(2).to(dtype)
        result, wide = self.run(x), self.run(x.to(torch.promote_types(dtype, torch.float32)))
        assert result.best_noise.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.equal(result.best_noise, wide.best_noise)

    @pytest.mark.parametrize("dtype", inputs.HALF)
    def test_a_generator_in_half_precision_is_searched_too(self, dtype):
        result = self.run(noise(2), lambda x: mixing_generator(x.to(dtype)))
        assert bool((result.best_reward > result.initial_reward).all())
        assert bool(torch.isfinite(result.best_noise).all())

    @pytest.mark.parametrize("layout", inputs.LAYOUTS)
    def test_the_layout_in_memory_does_not_matter(self, layout):
        x = inputs.LAYOUTS[layout](noise(inputs.BATCH))
        plain = self.run(x.clone(memory_format=torch.contiguous_format))
        torch.testing.assert_close(self.run(x).best_noise, plain.best_noise)

    def test_nothing_is_written_into_the_noise_and_nothing_of_the_result_is_shared(self):
        x = noise(2)
        before = inputs.written(x)
        result = self.run(x)
        assert inputs.same(before, x)
        kept = result.initial_latents.clone()
        for tensor in (result.best_noise, result.best_latents, result.best_reward):
            tensor.zero_()
        assert torch.equal(result.initial_latents, kept) and inputs.same(before, x)

    def test_a_generator_and_a_reward_may_write_into_what_they_get(self):
        def generate(x):
            latents = mixing_generator(x)
            x.detach().zero_()
            return latents

        def reward(z):
            value = REWARD(z)
            z.detach().zero_()
            return value

        torch.testing.assert_close(self.run(noise(2), generate).best_reward, self.run(noise(2)).best_reward)
        if not self.differentiates:  # autograd itself refuses a reward that spoils what it has to remember
            plain = self.run(noise(2))
            torch.testing.assert_close(self.run(noise(2), reward=reward).best_noise, plain.best_noise)

    def test_the_seed_decides_and_no_other_randomness_is_touched(self):
        x = noise(2)
        state = torch.random.get_rng_state()
        first, again = self.run(x, seed=5), self.run(x, seed=5)
        assert torch.equal(first.best_noise, again.best_noise)
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_a_generator_without_gradient_is_searched_or_refused_by_name(self):
        def generate(x):
            with torch.no_grad():
                return mixing_generator(x)

        if self.differentiates:
            with pytest.raises(ValueError, match="carry no gradient"):
                self.run(noise(2), generate)
        else:
            assert bool(torch.isfinite(self.run(noise(2), generate).best_reward).all())

    def test_inference_mode_is_searched_in_or_refused_by_name(self):
        with torch.inference_mode():
            if self.differentiates:
                with pytest.raises(ValueError, match="inference_mode"):
                    self.run(noise(2))
            else:
                assert bool((self.run(noise(2)).best_reward > -torch.inf).all())

    def test_an_item_whose_reward_breaks_does_not_break_the_others(self):
        def reward(z):
            value = REWARD(z)
            return value + torch.where(torch.arange(len(value)) == 1, torch.nan, 0.0)

        result, whole = self.run(noise(3), reward=reward), self.run(noise(3))
        assert result.best_reward.isnan().tolist() == [False, True, False]
        for item in (0, 2):
            torch.testing.assert_close(result.best_noise[item], whole.best_noise[item])

    def test_it_can_be_left_at_any_time(self):
        run = ReNORun(mixing_generator, noise(2), REWARD, self.search)
        next(run), next(run)
        result = run.result()
        assert len(result.history) == 2 and result.stopped == ["cancelled", "cancelled"]
        assert bool((result.best_reward >= result.initial_reward).all())

    def test_screening_and_targets_go_with_it(self):
        if self.of != "best_of_n":
            result = self.run(noise(2), candidates=4, keep=2)
            assert [record.phase for record in result.history[:4]] == ["screen"] * 4
        low = self.run(noise(2), target=-1e6)
        assert len(low.history) == 1 and low.stopped == ["target", "target"]

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda x: x.tolist(), "list"),
            (lambda x: x.long(), "int64"),
            (lambda x: x[:0], "empty"),
            (lambda x: x * 0, "zero"),
            (lambda x: torch.where(x > 2, torch.nan, x), "NaN"),
        ],
        ids=["a list", "whole numbers", "no item", "zeros", "NaN"],
    )
    def test_noise_that_cannot_be_searched_from_is_refused_by_name(self, change, word):
        with pytest.raises(ValueError, match=word):
            self.run(change(noise(2)))

    def test_a_generator_or_reward_that_answers_wrongly_is_named(self):
        with pytest.raises(ValueError, match="generator answered"):
            self.run(noise(2), lambda x: mixing_generator(x)[:1])
        with pytest.raises(ValueError, match="one number per batch item"):
            self.run(noise(2), reward=lambda z: REWARD(z).mean())
