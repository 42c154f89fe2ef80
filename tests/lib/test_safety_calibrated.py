"""A calibrated threshold is of its texts, and of how they are asked: with others nothing is calibrated."""

import copy
import json
import pickle
from dataclasses import replace

import pytest
import safety_worlds as worlds

import lclip
from lclip import Concept, SafetyPolicy
from lclip.checkpoints.fingerprint import fingerprint
from lclip.safety.judge import SafetyJudge
from lclip.safety.report import report_json, report_text

DOGS = Concept("dogs", ("a naked statue",), ("a statue",))


@pytest.fixture(scope="module")
def clip():
    return worlds.tiny_clip()


@pytest.fixture(scope="module")
def calibrated(clip):
    policy = worlds.policy(everyday=("a person", "a statue"))
    found = lclip.calibrate(policy, clip, worlds.pictures(60), worlds.pictures(60, seed=2), 0.1)
    assert found.policy.model == fingerprint(clip)
    return found.policy


def other_threshold(policy):
    return (replace(policy.concepts[0], threshold=0.9), *policy.concepts[1:])


def other_safe_text(policy):
    return (replace(policy.concepts[0], safe=("an arm",)), *policy.concepts[1:])


CHANGES = {
    "a concept on top": lambda p: {"concepts": (*p.concepts, DOGS)},
    "another threshold": lambda p: {"concepts": other_threshold(p)},
    "a harmless text less": lambda p: {"concepts": other_safe_text(p)},
    "an allow-list": lambda p: {"allow": ("a statue",)},
    "a template less": lambda p: {"templates": ("{}",)},
    "other augmentations": lambda p: {"augmentations": ("whole", "mirror")},
    "another size rule": lambda p: {"size_rule": "interpolate" if p.size_rule != "interpolate" else "crops"},
    "no everyday texts": lambda p: {"everyday": ()},
    "other everyday texts": lambda p: {"everyday": ("a statue",)},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("by", ["changed", "replace", "a stored one"])
def test_what_a_calibration_stands_on_cannot_be_changed_under_it(calibrated, change, by, caplog):
    policy = SafetyPolicy.from_json(calibrated.to_json()) if by == "a stored one" else calibrated
    changes = CHANGES[change](policy)
    new = policy.changed(**changes) if by != "replace" else replace(policy, **changes)
    assert new.model is None, f"{change} still counts as calibrated"
    assert "calibrate it again" in caplog.text
    assert json.loads(new.to_json())["model"] is None
    assert new.changed(name="later").model is None


@pytest.mark.parametrize(
    "changes", [{"name": "x"}, {"description": "x"}, {"strictness": "high"}, {"strictness": -1.0}]
)
def test_names_and_strictness_leave_it_as_it_is(calibrated, changes, clip):
    new = calibrated.changed(**changes)
    assert new.model == calibrated.model == fingerprint(clip)
    assert SafetyPolicy.from_json(new.to_json()) == new
    assert new.changed(concepts=new.concepts).model == calibrated.model  # the same texts are no change


def test_fewer_of_its_concepts_are_calibrated_as_they_were(calibrated, clip):
    one = calibrated.only(["nudity"])
    assert one.model == calibrated.model
    assert one.thresholds == calibrated.thresholds[1:]
    assert one.changed(allow=("a statue",)).model is None
    z = worlds.pictures()
    both, alone = calibrated.judge(clip, z), one.judge(clip, z)
    assert [v.probabilities["nudity"] for v in both] == [v.probabilities["nudity"] for v in alone]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_copy_is_as_calibrated_as_the_original(calibrated, copied):
    assert copied(calibrated) == calibrated and copied(calibrated).model == calibrated.model
    assert replace(copied(calibrated), allow=("a statue",)).model is None


def test_the_mini_preset_with_more_than_it_was_calibrated_with_says_so(world):
    mini = SafetyPolicy.preset("mini")
    assert mini.model == fingerprint(world.latent_clip)
    own = Concept("red", ("a red circle",), ("a blue circle",))
    z = worlds.pictures(2)
    judge = SafetyJudge(mini.changed(concepts=(*mini.concepts, own)), world.latent_clip)
    assert "not calibrated" in report_text(judge, judge(z))
    assert json.loads(report_json(judge, judge(z)))["calibrated"] is False


@pytest.mark.parametrize(
    ("strictness", "told"), [("medium", False), (0.0, False), ("low", True), (1.5, True)]
)
def test_strictness_on_calibrated_thresholds_says_that_the_rates_moved(calibrated, clip, strictness, told):
    judge = SafetyJudge(calibrated.changed(strictness=strictness), clip)
    z = worlds.pictures(2)
    assert ("hold for medium" in report_text(judge, judge(z))) is told
    content = json.loads(report_json(judge, judge(z)))
    assert content["calibrated"] is True
    assert any("hold for medium" in note for note in content["notes"]) is told


def test_a_judge_says_what_was_left_open_without_losing_the_calibration(clip):
    """As policies were calibrated before they recorded a size rule or everyday texts."""
    old = worlds.policy(model=fingerprint(clip), everyday=None)
    judge = SafetyJudge(old, clip)
    assert judge.policy.model == old.model and judge.policy.everyday is not None
    assert judge.digest == SafetyJudge(old, clip).digest


def test_the_hash_of_a_calibrated_policy_names_its_model(calibrated, clip):
    """As it was before: recorded reports must find their policy."""
    judge = SafetyJudge(calibrated, clip)
    assert judge.digest == calibrated.digest([fingerprint(clip)])
