"""Verdicts: the formula against a second implementation of it, and blocked whenever anything is not as it
should.
"""

import math
import os

import pytest
import safety_worlds as worlds
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lclip import Concept, SafetyJudge, SafetyPolicy
from lclip.checkpoints.fingerprint import fingerprint
from lclip.latents.neutral import neutral_latents
from lclip.latents.size_rules import SIZE_RULES
from lclip.safety.report import report_json, report_text
from lclip.safety.unreadable import why_unreadable

Z = worlds.pictures()


@pytest.fixture(scope="module")
def clip():
    return worlds.tiny_clip()


def test_probabilities_follow_the_formula(clip):
    verdicts = worlds.policy().judge(clip, Z)
    for concept in (worlds.GORE, worlds.NUDITY):
        wanted = worlds.by_hand(clip, Z, concept)
        got = torch.tensor([v.probabilities[concept.name] for v in verdicts], dtype=torch.float64)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_the_allow_list_competes_with_every_concept(clip):
    verdicts = worlds.policy(allow=("a statue",)).judge(clip, Z)
    for concept in (worlds.GORE, worlds.NUDITY):
        wanted = worlds.by_hand(clip, Z, concept, allow=("a statue",))
        got = torch.tensor([v.probabilities[concept.name] for v in verdicts], dtype=torch.float64)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
        assert (got < worlds.by_hand(clip, Z, concept)).all()


def test_each_item_is_judged_by_itself(clip):
    policy = worlds.halved(clip, Z)
    together = policy.judge(clip, Z)
    assert {v.safe for v in together} == {True, False}
    for index, verdict in enumerate(together):
        (alone,) = policy.judge(clip, Z[index : index + 1])
        assert (alone.safe, alone.concept) == (verdict.safe, verdict.concept)
        assert alone.probability == pytest.approx(verdict.probability, rel=1e-5)
        assert verdict.index == index


def test_safe_means_below_every_threshold_and_blocked_names_a_concept_beyond_its_own(clip):
    policy = worlds.halved(clip, Z)
    thresholds = dict(zip(["gore", "nudity"], policy.thresholds, strict=True))
    for verdict in policy.judge(clip, Z):
        below = {name: p < thresholds[name] for name, p in verdict.probabilities.items()}
        assert verdict.safe == all(below.values())
        assert verdict.threshold == thresholds[verdict.concept]
        assert verdict.probability == verdict.probabilities[verdict.concept]
        assert verdict.safe or not below[verdict.concept]
        assert {verdict.concept, verdict.runner_up} == {"gore", "nudity"}
        assert verdict.runner_up_probability == verdict.probabilities[verdict.runner_up]


def test_a_probability_equal_to_its_threshold_is_blocked(clip):
    p = worlds.policy().judge(clip, Z)[0].probabilities["gore"]
    for threshold, safe in ((p, False), (math.nextafter(p, 1), True), (math.nextafter(p, 0), False)):
        gore = Concept("gore", worlds.GORE.unsafe, worlds.GORE.safe, threshold)
        nudity = Concept("nudity", worlds.NUDITY.unsafe, worlds.NUDITY.safe, 1 - 1e-9)
        assert worlds.policy(concepts=(gore, nudity)).judge(clip, Z)[0].safe is safe


def test_stricter_blocks_more(clip):
    policy = worlds.halved(clip, Z)
    passed = [
        sum(v.safe for v in policy.changed(strictness=word).judge(clip, Z))
        for word in (-6.0, "low", "medium", "high", 6.0)
    ]
    assert passed == sorted(passed, reverse=True)
    assert passed[0] == 6 and passed[-1] == 0


@pytest.mark.parametrize("kind", worlds.BROKEN)
def test_one_broken_item_is_blocked_with_a_reason_and_the_others_are_judged(clip, kind):
    lenient = worlds.policy(strictness=-10.0)
    assert all(v.safe for v in lenient.judge(clip, Z)), "the policy must let all good items pass"
    before = Z.clone()
    verdicts = lenient.judge(clip, worlds.BROKEN[kind](Z))
    assert [v.safe for v in verdicts] == [True, False, True, True, True, True]
    assert verdicts[1].concept == "unreadable" and math.isnan(verdicts[1].probability)
    assert "latents" in verdicts[1].reason
    assert torch.equal(Z, before)


def test_noise_is_no_picture(clip):
    noise = torch.randn(4, 4, 16, 16)
    lenient = worlds.policy(strictness=-10.0)
    for scale in (1.0, 14.6):  # latents not sampled at all, and the same at the first sigma
        assert not any(v.safe for v in lenient.judge(clip, scale * noise))


def test_the_grey_that_stands_in_for_a_blocked_picture_is_not_blocked_again(clip):
    grey = neutral_latents("mini", (1, 4, 8, 8))
    policy = worlds.halved(clip, Z, 0.01)
    for check_scale in (True, False):
        *others, verdict = SafetyJudge(policy, clip, check_scale)(torch.cat([Z, grey]))
        assert verdict.safe and (verdict.concept, verdict.index) == ("grey", len(Z))
        assert verdict.reason == "plain grey, which stands in for a blocked picture"
        assert verdict.probabilities is None and not verdict.none_of_these
        assert others == SafetyJudge(policy, clip, check_scale)(Z)
    judge = SafetyJudge(policy, clip)
    report = report_text(judge, judge(torch.cat([Z, grey])))
    assert f"item {len(Z):>3}  safe     plain grey" in report
    brighter = grey + 0.1
    (verdict,) = policy.judge(clip, brighter)
    assert not verdict.safe and "too small" in verdict.reason


def test_crumbs_cannot_be_told_from_noise(clip):
    assert not any(v.safe for v in worlds.policy(strictness=-10.0).judge(clip, worlds.pictures(size=2)))


@pytest.mark.parametrize(
    ("z", "says"),
    [
        (torch.randn(1, 16, 8, 8), "16 channels"),
        (torch.randn(1, 3, 8, 8), "3 channels"),
        (torch.randn(1, 4, 2, 8, 8), "video"),
        (torch.randn(4, 8, 8), "batch dimension"),
        (torch.randn(0, 4, 8, 8), "empty"),
        (torch.randn(1, 4, 1, 8), "patch"),
        (torch.ones(1, 4, 8, 8, dtype=torch.long), "floating"),
        (None, "NoneType"),
    ],
)
def test_a_batch_that_cannot_be_read_is_an_error_and_never_a_pass(clip, z, says):
    with pytest.raises(ValueError, match=says):
        worlds.policy().judge(clip, z)


@pytest.mark.parametrize("model", [None, (), "clip", [None]])
def test_a_missing_model_is_an_error(model):
    with pytest.raises(ValueError, match="expected a Latent-CLIP"):
        worlds.policy().judge(model, Z)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["visual.proj", "text_projection", "log_logit_scale"])
def test_a_broken_model_blocks_everything(where, value):
    clip = worlds.tiny_clip()
    clip.get_parameter(where).data.fill_(value)
    assert not any(v.safe for v in worlds.policy(strictness=-10.0).judge(clip, Z))


def test_a_policy_of_another_model_is_refused(clip):
    bound = worlds.policy(model=fingerprint(clip))
    assert len(bound.judge(clip, Z)) == 6
    with pytest.raises(ValueError, match="calibrate it again"):
        bound.judge(worlds.tiny_clip(seed=5), Z)
    with pytest.raises(ValueError, match="calibrate it again"):
        bound.judge([clip, worlds.tiny_clip(seed=5)], Z)


def test_a_policy_is_read_by_its_models_size_rule_unless_it_names_one(clip):
    wide, cropping = worlds.pictures(size=13), worlds.tiny_clip()
    cropping.size_rule = "tiles"
    for policy, rule in ((worlds.policy(), "tiles"), (worlds.policy(size_rule="resize"), "resize")):
        asked = worlds.policy(size_rule=rule).judge(clip, wide)
        assert policy.judge(cropping, wide) == asked
    assert worlds.policy().judge(cropping, wide) != worlds.policy().judge(clip, wide)


def test_a_calibrated_policy_without_a_rule_is_read_as_when_none_was_recorded(clip):
    wide, plain = worlds.pictures(size=13), worlds.tiny_clip()
    plain.size_rule = "interpolate"
    assert clip.size_rule == "fit"
    old = worlds.policy(model=fingerprint(clip))
    assert SafetyJudge(old, clip).size_rule == "interpolate"
    assert old.judge(clip, wide) == worlds.policy().judge(plain, wide) != worlds.policy().judge(clip, wide)


def test_models_that_judge_together_read_sizes_alike(clip):
    other = worlds.tiny_clip(seed=5)
    other.size_rule = "tiles"
    with pytest.raises(ValueError, match="different rules: fit, tiles"):
        worlds.policy().judge([clip, other], Z)


def test_a_digest_names_the_rule_in_force(clip):
    other = worlds.tiny_clip()
    other.size_rule = "tiles"
    digests = {rule: SafetyJudge(worlds.policy(size_rule=rule), clip).digest for rule in SIZE_RULES}
    assert len(set(digests.values())) == len(SIZE_RULES)
    assert SafetyJudge(worlds.policy(), clip).digest == digests[clip.size_rule]
    assert SafetyJudge(worlds.policy(), other).digest == digests["tiles"]


def test_a_policy_of_another_latent_space_is_refused(clip):
    with pytest.raises(ValueError, match="mini world's latents; .* is for SDXL latents"):
        worlds.policy(latent_space="sdxl").judge(clip, Z)
    with pytest.raises(ValueError, match="one latent space"):
        worlds.policy().judge([clip, worlds.tiny_clip(latent_space="sdxl")], Z)


@pytest.mark.parametrize("rule", SIZE_RULES)
@pytest.mark.parametrize("size", [8, 11])  # the native one, and one that has to be resampled
def test_half_precision_is_the_same_model_and_judges_alike(clip, size, rule):
    half, z, policy = worlds.tiny_clip().half(), worlds.pictures(size=size), worlds.policy(size_rule=rule)
    assert fingerprint(half) == fingerprint(clip)
    for one, two in zip(policy.judge(half, z), policy.judge(clip, z), strict=True):
        assert one.probability == pytest.approx(two.probability, abs=0.02)


def test_half_precision_that_overflows_blocks(clip):
    half = worlds.tiny_clip().half()
    half.visual.transformer.resblocks[0].mlp.c_fc.weight.data.mul_(1e3)
    half.visual.transformer.resblocks[0].mlp.c_proj.weight.data.mul_(1e3)
    assert not any(v.safe for v in worlds.policy(strictness=-10.0).judge(half, Z))


def test_a_fingerprint_tells_models_apart(clip):
    other = worlds.tiny_clip()
    other.ln_final.bias.data[0] += 0.01
    assert fingerprint(other) != fingerprint(clip)
    assert fingerprint(clip) == fingerprint(worlds.tiny_clip())


def test_views_are_averaged(clip):
    whole = worlds.by_hand(clip, Z, worlds.GORE)
    mirror = worlds.by_hand(clip, Z.flip(-1), worlds.GORE)
    corners = [
        F.pad(Z[..., max(0, dy) : 8 + min(0, dy), max(0, dx) : 8 + min(0, dx)], pad, mode="replicate")
        for dy, dx, pad in (
            (1, 1, (0, 1, 0, 1)),
            (1, -1, (1, 0, 0, 1)),
            (-1, 1, (0, 1, 1, 0)),
            (-1, -1, (1, 0, 1, 0)),
        )
    ]
    cropped = [worlds.by_hand(clip, corner, worlds.GORE) for corner in corners]
    for augmentations, wanted in (
        (("mirror",), mirror),
        (("whole", "mirror"), (whole + mirror) / 2),
        (("whole", "mirror", "corners"), torch.stack([whole, mirror, *cropped]).mean(0)),
    ):
        verdicts = worlds.policy(augmentations=augmentations).judge(clip, Z)
        got = torch.tensor([v.probabilities["gore"] for v in verdicts], dtype=torch.float64)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_a_second_model_is_averaged_in(clip):
    other = worlds.tiny_clip(seed=7)
    both = worlds.policy().judge([clip, other], Z)
    wanted = (worlds.by_hand(clip, Z, worlds.GORE) + worlds.by_hand(other, Z, worlds.GORE)) / 2
    got = torch.tensor([v.probabilities["gore"] for v in both], dtype=torch.float64)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_reports_name_everything_that_a_reader_needs(clip):
    import json

    judge = SafetyJudge(worlds.halved(clip, Z, strictness="high"), clip)
    z = Z.clone()
    z[4] = math.nan
    verdicts = judge(z)
    text, content = report_text(judge, verdicts), json.loads(report_json(judge, verdicts))
    for verdict, line, entry in zip(verdicts, text.splitlines()[1:], content["verdicts"], strict=False):
        assert f"item {verdict.index:>3}" in line
        assert ("BLOCKED" in line) == (not verdict.safe) == (not entry["safe"])
        if verdict.index == 4:
            assert "NaN" in line and entry["probability"] is None
        else:
            for part in (verdict.concept, verdict.runner_up, f"{verdict.threshold:.4f}"):
                assert part in line
            assert entry["probabilities"] == verdict.probabilities
    assert judge.digest[:16] in text and content["hash"] == judge.digest
    assert content["blocked"] == sum(not v.safe for v in verdicts)
    assert "not calibrated" in text
    bound = SafetyJudge(judge.policy.changed(model=fingerprint(clip)), clip)
    assert "not calibrated" not in report_text(bound, verdicts)


CASES = int(os.environ.get("SAFETY_CASES", "10000"))
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
VALUES = (0.0, 1.0, -1.0, 3.0, 6.0, 30.0, 1e4, 65504.0, 1e30, 3e38, math.inf, -math.inf, math.nan)
TINY = worlds.tiny_clip(seed=3)


def make_batch(batch, channels, height, width, dtype, seed, spread, holes):
    random = torch.Generator().manual_seed(seed)
    smooth = torch.randn(batch, channels, 2, 2, generator=random)
    z = F.interpolate(smooth, (height, width), mode="nearest") * spread
    z = z + 0.1 * spread * torch.randn(batch, channels, height, width, generator=random)
    z = z.to(dtype)
    for place, value in holes:
        z.view(-1)[place % z.numel()] = torch.tensor(value).to(dtype)
    return z


POLICY = worlds.halved(
    TINY, torch.cat([make_batch(3, 4, 8, 8, torch.float32, s, 6.0, []) for s in range(100, 120)]), 0.8
)
JUDGE = SafetyJudge(POLICY, TINY)


@settings(max_examples=CASES)
@given(
    st.integers(1, 3),
    st.sampled_from((4, 4, 4, 4, 4, 4, 1, 3, 16)),
    st.integers(1, 10),
    st.integers(1, 10),
    st.sampled_from(DTYPES),
    st.integers(0, 2**32),
    st.sampled_from((6.0, 6.0, 6.0, 4.0, 8.0, 1.0, 0.8, 14.6, 1e3, 1e37)),
    st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(VALUES)), max_size=2),
)
def test_nothing_passes_that_is_not_provably_safe(batch, channels, height, width, dtype, seed, spread, holes):
    """Whatever comes in: an error, or every safe item is finite, of picture scale and below every
    threshold.
    """
    z = make_batch(batch, channels, height, width, dtype, seed, spread, holes)
    before = z.clone()
    try:
        verdicts = JUDGE(z)
    except ValueError:
        assert channels != 4 or min(height, width) < 2
        return
    assert channels == 4 and len(verdicts) == batch
    assert torch.equal(z.view(torch.uint8), before.view(torch.uint8)), "an input was written"
    safe = [v.index for v in verdicts if v.safe]
    if safe:
        passed = z[safe].double()
        assert torch.isfinite(passed).all()
        size = passed.square().mean((1, 2, 3)).sqrt()
        assert ((size > 1.5) & (size < 30)).all()
        for concept, threshold in zip(POLICY.concepts, POLICY.thresholds, strict=True):
            # 1e-3: float32 against float64
            assert (worlds.by_hand(TINY, z[safe].float(), concept) < threshold + 1e-3).all()


def test_the_cases_above_pass_and_block_both():
    """Otherwise the property would hold by blocking everything."""
    verdicts = [
        verdict
        for seed in range(60)
        for verdict in JUDGE(make_batch(3, 4, 8, 8, torch.float32, seed, 6.0, []))
    ]
    passed = sum(v.safe for v in verdicts)
    assert 20 < passed < len(verdicts) - 20


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_random_bytes_are_no_policy(data):
    with pytest.raises(ValueError):
        SafetyPolicy.from_json(data.decode("latin-1"))


def test_few_cells_are_named_by_height_and_width():
    z, config = worlds.pictures(2, size=12), worlds.tiny_clip().config
    few = "the latents are 3x5 cells: too small to tell a picture from noise"
    assert why_unreadable(z[..., :3, :5], config) == [few, few]
    assert why_unreadable(z[..., :4, :5], config) == [None, None]
    assert why_unreadable(z[..., :3, :5], config, check_scale=False) == [None, None]
