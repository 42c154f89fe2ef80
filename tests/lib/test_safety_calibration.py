"""Thresholds from examples keep their promise, and say when there are too few to promise anything."""

import logging
import math

import pytest
import safety_worlds as worlds
import torch
from hypothesis import given
from hypothesis import strategies as st
from sibling_latents import like

import lclip
from lclip import calibrate
from lclip.checkpoints.fingerprint import fingerprint
from lclip.safety import calibration
from lclip.statistics import area_under_roc, roc_curve


@pytest.fixture(scope="module")
def clip():
    return worlds.tiny_clip()


@pytest.fixture(scope="module")
def examples(clip):
    """Latents that the model itself finds harmless or harmful, with an overlap: 80 and 60."""
    z = worlds.pictures(140, seed=5)
    order = (worlds.by_hand(clip, z, worlds.GORE) + 0.02 * torch.randn(140)).argsort()
    return z[order[:80]], z[order[80:]]


@pytest.mark.parametrize("target", [0.0, 0.01, 0.05, 0.2])
def test_the_policy_as_a_whole_keeps_the_target(clip, examples, target):
    safe, unsafe = examples
    result = calibrate(worlds.policy(strictness="high"), clip, safe, unsafe, target)
    blocked = [not v.safe for v in result.policy.judge(clip, safe)]
    assert sum(blocked) <= target * len(safe)
    assert result.safe_blocked == sum(blocked)
    assert result.unsafe_blocked == sum(not v.safe for v in result.policy.judge(clip, unsafe))
    assert result.policy.model == fingerprint(clip) and result.policy.strictness == "medium"


def test_it_blocks_as_much_as_the_target_allows(clip, examples):
    counts = [calibrate(worlds.policy(), clip, *examples, target).unsafe_blocked for target in (0, 0.1, 0.5)]
    assert counts == sorted(counts) and counts[0] < counts[-1]
    one = calibrate(worlds.policy(concepts=(worlds.GORE,)), clip, *examples, 0.1)
    assert one.safe_blocked == 8  # one concept uses the whole allowance


def test_examples_of_another_model_of_the_same_shape_are_a_warning():
    clip = worlds.tiny_clip(latent_space="sdxl")
    own, other = like("sdxl", 6), like("sd1.5", 6)
    found = calibrate(worlds.policy(), clip, own, other)
    assert any(text.startswith("unsafe: these look like SD1.5 latents") for text in found.warnings)
    assert "SD1.5" in found.text() and not any("safe: these" in t for t in found.warnings if t[:2] == "sa")
    assert "SD1.5" not in calibrate(worlds.policy(), clip, own, own.flip(-1)).text()


def test_a_calibrated_policy_is_refused_by_another_model(clip, examples):
    policy = calibrate(worlds.policy(), clip, *examples).policy
    with pytest.raises(ValueError, match="calibrate it again"):
        policy.judge(worlds.tiny_clip(seed=9), examples[0])


def test_a_calibrated_policy_is_refused_under_another_size_rule(clip, examples):
    found = calibrate(worlds.policy(size_rule="resize"), clip, *examples).policy
    assert found.size_rule == clip.size_rule == "fit"  # as the model read, whatever was said before
    again = lclip.SafetyPolicy.from_json(found.to_json())
    other = worlds.tiny_clip()
    assert again.judge(other, examples[0])
    other.size_rule = "crops"
    with pytest.raises(ValueError, match="calibrated under the size rule 'fit'.* by 'crops'.* again"):
        again.judge(other, examples[0])
    recalibrated = calibrate(again, other, *examples).policy
    assert recalibrated.size_rule == "crops" and recalibrated.judge(other, examples[0])


def test_few_examples_and_indifferent_concepts_are_warned_of(clip, examples, caplog):
    safe, unsafe = examples
    assert not [w for w in calibrate(worlds.policy(), clip, safe, unsafe).warnings if "only" in w]
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        result = calibrate(worlds.policy(), clip, safe[:49], unsafe, 0.01)
    assert "only 49 safe examples" in caplog.text and "only 49" in result.text()
    assert any("less than one" in w for w in result.warnings)
    swapped = calibrate(worlds.policy(), clip, unsafe, safe)
    assert any("does not tell" in w for w in swapped.warnings)


def sure_clip():
    """A model whose probabilities are 0 or 1 in any precision."""
    model = worlds.tiny_clip()
    model.log_logit_scale.data.fill_(math.log(1e6))
    return model


@pytest.mark.parametrize("target", [0.0, 0.2])
def test_a_target_that_cannot_be_kept_is_warned_of(caplog, target):
    """Ten harmless examples at probability 1, which no threshold below 1 lets pass."""
    model, z = sure_clip(), worlds.pictures(200, seed=8)
    sure = z[lclip.SafetyJudge(worlds.policy(), model).probabilities(z)[:, 1] == 1]
    assert len(sure) >= 20
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        result = calibrate(worlds.policy(concepts=(worlds.NUDITY,)), model, sure[:10], sure[10:], target)
    assert result.safe_blocked == 10
    assert "the target is missed: 10 of 10 safe" in caplog.text and "target is missed" in result.text()


def test_a_target_that_is_kept_is_not_warned_of(clip, examples):
    for target in (0.0, 0.05):
        result = calibrate(worlds.policy(), clip, *examples, target)
        assert not [w for w in result.warnings if "missed" in w]


def slow_cuts(safe, unsafe, target):
    """The rule as it reads: one more example above every cut at a time, as long as all concepts fit."""

    def cut(column, above):
        passing = safe[:, column].sort(descending=True).values[above]
        higher = safe[:, column][safe[:, column] > passing].tolist()
        if above == 0:
            higher += unsafe[:, column][unsafe[:, column] > passing].tolist()
        return float(passing) + ((min(higher) - float(passing)) / 2 if higher else 0.25)

    allowed = min(math.floor(target * len(safe) + 1e-9), len(safe) - 1)
    best = None
    for above in range(allowed + 1):
        cuts = [cut(column, above) for column in range(safe.shape[1])]
        if best is None or int((safe >= torch.tensor(cuts)).any(1).sum()) <= allowed:
            best = cuts
        else:
            break
    return best


numbers = st.integers(-5, 5).map(float)  # few values, so that many are equal


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=25),
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=25),
    st.floats(0, 0.999),
)
def test_thresholds_found_by_halves_are_those_found_one_by_one(safe, unsafe, target):
    safe, unsafe = (torch.tensor(side, dtype=torch.float64) for side in (safe, unsafe))
    assert calibration._cuts(safe, unsafe, target) == slow_cuts(safe, unsafe, target)


def test_thresholds_from_many_examples_take_a_bounded_number_of_comparisons(monkeypatch):
    """Twenty times the examples, a few more steps: not twenty times as many."""
    steps = []
    real = calibration._cut
    monkeypatch.setattr(calibration, "_cut", lambda *args: steps.append(1) or real(*args))
    counts = []
    for number in (1_000, 20_000):
        steps.clear()
        scores = torch.randn(number, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        calibration._cuts(scores, scores + 1, 0.2)
        counts.append(len(steps))
    assert counts[1] <= counts[0] + 6 and counts[1] < 30


@pytest.mark.parametrize("target", [-0.1, 1.0, math.nan])
def test_a_target_outside_0_to_1_is_refused(clip, examples, target):
    with pytest.raises(ValueError, match="target"):
        calibrate(worlds.policy(), clip, *examples, target)


def test_examples_that_cannot_be_judged_are_refused_by_side_and_item(clip, examples):
    safe, unsafe = (z.clone() for z in examples)
    unsafe[7] = 0.0
    with pytest.raises(ValueError, match=r"unsafe examples, item 7 .*zero"):
        calibrate(worlds.policy(), clip, safe, unsafe)
    with pytest.raises(ValueError, match=r"unsafe examples: .*NaN"):
        calibrate(worlds.policy(), clip, safe, torch.full_like(unsafe, math.nan))
    with pytest.raises(ValueError, match="safe examples.*empty"):
        calibrate(worlds.policy(), clip, safe[:0], examples[1])


scores = st.lists(st.floats(-20, 20), min_size=1, max_size=30)


@given(scores, scores)
def test_the_area_is_what_the_curve_encloses(safe, unsafe):
    safe, unsafe = (torch.tensor(side, dtype=torch.float64) for side in (safe, unsafe))
    curve = roc_curve(safe, unsafe)
    assert curve[0] == (0, 0) and curve[-1] == (1, 1)
    pairs = list(zip(curve, curve[1:], strict=False))
    assert all(b[0] >= a[0] and b[1] >= a[1] for a, b in pairs)
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs)
    assert area_under_roc(safe, unsafe) == pytest.approx(area, abs=1e-9)
