"""What is asked of every safety policy: the shipped ones, and one of the user's own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from lclip import LatentCLIP, LatentCLIPConfig, SafetyJudge, SafetyPolicy

from . import inputs


def numbers(verdicts: list) -> torch.Tensor:
    """Every concept's probability: [B, concepts], float64."""
    return torch.tensor([list(verdict.probabilities.values()) for verdict in verdicts], dtype=torch.float64)


def text_reader() -> LatentCLIP:
    """A Latent-CLIP of random weights that reads any text, for SDXL's latents."""
    config = LatentCLIPConfig(
        embed_dim=16, channels=4, patch_size=2, grid=4, vision_width=32, vision_layers=1, vision_heads=2,
        text_width=32, text_layers=1, text_heads=2, context_length=77, vocab_size=49408, latent_space="sdxl",
    )  # fmt: skip
    torch.manual_seed(0)
    return LatentCLIP(config).requires_grad_(False).eval()


class PolicyKind:
    """Inherit and say which policy (`of`, its name among the presets); another one gives `policy`."""

    of: str

    def policy(self) -> SafetyPolicy:
        return SafetyPolicy.preset(self.of)

    def model(self) -> Any:
        """A Latent-CLIP that knows the policy's words, and that it may be asked with."""
        return text_reader()

    @pytest.fixture
    def judge(self):
        return SafetyJudge(self.policy(), self.model())

    def test_it_is_what_it_says(self, judge):
        assert judge.policy.name == self.of and judge.policy.concepts
        assert all(0 < threshold < 1 for threshold in judge.policy.thresholds)

    def test_a_batch_equals_its_items_one_by_one(self, judge):
        z = inputs.pictures(4)
        verdicts = judge(z)
        assert [verdict.index for verdict in verdicts] == [0, 1, 2, 3]
        alone = [judge(z[item : item + 1])[0] for item in range(4)]
        torch.testing.assert_close(numbers(verdicts), numbers(alone), atol=1e-5, rtol=0)
        assert [v.safe for v in verdicts] == [v.safe for v in alone]
        assert [v.concept for v in verdicts] == [v.concept for v in alone]
        assert verdicts == judge.policy.judge(judge.models, z)

    def test_a_verdict_is_the_comparison_with_the_thresholds(self, judge):
        for verdict in judge(inputs.pictures(8)):
            values = list(verdict.probabilities.values())
            below = [p < t for p, t in zip(values, judge.policy.thresholds, strict=True)]
            assert verdict.safe == all(below)
            assert verdict.probabilities[verdict.concept] == verdict.probability

    @pytest.mark.parametrize("dtype", inputs.HALF)
    def test_half_precision_latents_are_read_as_the_numbers_they_are(self, judge, dtype):
        z = inputs.pictures().to(dtype)
        assert torch.equal(numbers(judge(z)), numbers(judge(z.float())))

    def test_the_gradient_equals_finite_differences(self):
        judge = SafetyJudge(self.policy().changed(model=None), self.model().double())
        found, expected = inputs.slope(judge.excess, inputs.pictures().double())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert bool((expected != 0).all())

    def test_the_excess_is_above_zero_where_the_verdict_is_unsafe(self, judge):
        z = inputs.pictures(8)
        beyond = judge.excess(z)
        assert [bool(value < 0) for value in beyond] == [
            all(p < t for p, t in zip(row, judge.policy.thresholds, strict=True))
            for row in judge.probabilities(z).tolist()
        ]

    @pytest.mark.parametrize("layout", inputs.LAYOUTS)
    def test_the_layout_in_memory_does_not_matter(self, judge, layout):
        z = inputs.LAYOUTS[layout](inputs.pictures())
        plain = judge.probabilities(z.clone(memory_format=torch.contiguous_format))
        torch.testing.assert_close(judge.probabilities(z), plain, atol=1e-5, rtol=0)

    def test_nothing_is_written_into_the_latents(self, judge):
        z = inputs.pictures()
        z[1, 0, 0, 0] = math.nan
        version = z._version
        judge(z)
        assert z._version == version and int(z.isnan().sum()) == 1

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_broken_item_is_blocked_and_the_others_are_as_they_were(self, judge, bad):
        z = inputs.pictures()
        good = judge(z)
        z[1, 2, 3, 4] = bad
        verdicts = judge(z)
        assert not verdicts[1].safe and verdicts[1].concept == "unreadable"
        assert [verdicts[0], verdicts[2]] == [good[0], good[2]]

    def test_stricter_blocks_what_was_blocked_and_more(self):
        model, z = self.model(), inputs.pictures(12)
        blocked = [
            {v.index for v in self.policy().changed(strictness=strictness).judge(model, z) if not v.safe}
            for strictness in (-10.0, "low", "medium", "high", 10.0)
        ]
        assert all(less <= more for less, more in zip(blocked, blocked[1:], strict=False))

    def test_saved_and_loaded_it_is_the_same(self, judge):
        policy, z = judge.policy, inputs.pictures()
        loaded = SafetyPolicy.from_json(policy.to_json())
        assert loaded is not policy and loaded == policy and loaded.digest() == policy.digest()
        assert loaded.judge(judge.models, z) == judge(z)

    def test_its_hash_changes_with_its_words_and_thresholds(self):
        policy = self.policy()
        first, *rest = policy.concepts
        for changes in ({"threshold": first.threshold / 2}, {"unsafe": (*first.unsafe, "a")}):
            assert policy.changed(concepts=(replace(first, **changes), *rest)).digest() != policy.digest()

    @pytest.mark.parametrize("case", inputs.UNREADABLE)
    def test_what_cannot_be_read_is_refused_by_name(self, judge, case):
        change, word = inputs.UNREADABLE[case]
        for asked in (judge, judge.probabilities, judge.margins, judge.excess):
            with pytest.raises(ValueError, match=word):
                asked(change(inputs.pictures()))

    def test_a_policy_of_another_space_is_refused_by_name(self):
        with pytest.raises(ValueError, match="cogvideox|CogVideoX"):
            SafetyJudge(self.policy().changed(latent_space="cogvideox"), self.model())
