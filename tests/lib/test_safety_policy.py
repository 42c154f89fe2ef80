"""A safety policy is data: checked when made, equal after a round trip, different when a verdict could
differ.
"""

import hashlib
import json
import math

import numpy as np
import pytest
import safety_worlds as worlds
import torch
from hypothesis import given
from hypothesis import strategies as st

from lclip import Concept, SafetyPolicy, load, parse_concepts
from lclip.checkpoints.fingerprint import fingerprint
from lclip.mini.drawing import render, sample_scenes
from lclip.mini.vae import MiniVAE
from lclip.mini.world import WEIGHTS, load_module

WHOLE = "5fffcd34136ea0efe92a5bd172a4587d7010ef8ec1e8dfc7c278a039e6f20d7f"
ALL = "cb83c6b96bd4a3b98fb97cd13e049856dec6c1607c6c2f37aea0b8394eb47412"
I2P = ["hate", "harassment", "violence", "self-harm", "sexual", "shocking", "illegal activity"]


def test_i2p_has_its_seven_categories_with_matched_anchors():
    policy = SafetyPolicy.preset("i2p")
    assert [concept.name for concept in policy.concepts] == I2P
    for concept in policy.concepts:
        assert len(concept.unsafe) == len(concept.safe) >= 4
        assert not any(text.startswith(("no ", "not ")) for text in concept.safe), "a negated prompt"
    assert policy.model is None  # nobody calibrated it, and the reports say so


def test_the_mini_worlds_concept_stands_against_its_look_alikes():
    from lclip.mini.scenes import LOOK_ALIKES, UNSAFE_SHAPE

    (concept,) = SafetyPolicy.preset("mini").concepts
    assert concept.name == UNSAFE_SHAPE
    assert all(any(shape in text for text in concept.safe) for shape in LOOK_ALIKES)
    assert not any(UNSAFE_SHAPE in text for text in concept.safe)


def test_the_mini_preset_is_calibrated_for_the_shipped_weights():
    """After new weights: python -m benchmarks.mini_preset"""
    model = load(WEIGHTS / "latent_clip.safetensors")
    policy = SafetyPolicy.preset("mini")
    assert policy.model == fingerprint(model)
    scenes = sample_scenes(600, 5, split="dev")
    vae, _ = load_module(MiniVAE(), WEIGHTS / "vae.safetensors")
    pixels = torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2) / 127.5 - 1
    verdicts = policy.judge(model, vae.encode(pixels))
    unsafe = np.array([scene.content.unsafe for scene in scenes])
    blocked = np.array([not verdict.safe for verdict in verdicts])
    assert blocked[unsafe].mean() > 0.5 and blocked[~unsafe].mean() < 0.12


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="i2p, mini"):
        SafetyPolicy.preset("nsfw")


@pytest.mark.parametrize("policy", [SafetyPolicy.preset("i2p"), SafetyPolicy.preset("mini"), worlds.policy()])
def test_json_round_trip(policy):
    again = SafetyPolicy.from_json(policy.to_json())
    assert again == policy
    assert again.digest() == policy.digest()


def earlier(policy: SafetyPolicy) -> str:
    """A policy as it was written when augmentations were called views, and corners crops: by hand."""
    text = policy.to_json().replace('"augmentations": [', '"views": [').replace('"corners"', '"crops"')
    content = json.loads(text)
    del content["format"], content["checksum"]
    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({"format": "latent-clip-safety-policy", "checksum": checksum, **content})


@pytest.mark.parametrize("augmentations", [("whole",), ("mirror", "whole"), ("whole", "mirror", "corners")])
def test_files_that_speak_of_views_are_read_with_their_checksum(augmentations):
    policy = worlds.policy(augmentations=augmentations)
    assert SafetyPolicy.from_json(earlier(policy)) == policy
    with pytest.raises(ValueError, match="checksum"):
        SafetyPolicy.from_json(earlier(policy).replace("whole", "mirror").replace('"mirror", ', "", 1))


def test_hashes_are_those_from_before_the_names_changed():
    """Recorded with the version that called them views: a stored report must still find its policy."""
    concept = Concept("gore", ("blood",), ("an arm",), 0.25)
    policy = SafetyPolicy((concept,), version=1, size_rule="interpolate")  # then every policy named a rule
    assert policy.digest(["a"]) == WHOLE
    assert policy.changed(augmentations=("whole", "mirror", "corners")).digest() == ALL


VERSION_1 = """{"format": "latent-clip-safety-policy",
 "checksum": "1fe1770da91fe05eb586735790057a0a15b8983f6d4664a38aa3b9f65eeffa16",
 "concepts": [{"name": "gore", "unsafe": ["a wound", "blood"], "safe": ["an arm", "a bandage"],
               "threshold": 0.25}],
 "allow": ["a statue"], "templates": ["{}"], "strictness": "high", "augmentations": ["whole"],
 "size_rule": "interpolate", "name": "old", "description": "", "latent_space": null, "model": null,
 "version": 1}"""


def test_a_file_from_before_everyday_texts_is_read_as_it_was_written():
    """Written, and hashed, by the version that knew none: it keeps its verdicts, so it asks about none."""
    policy = SafetyPolicy.from_json(VERSION_1)
    assert policy.version == 1 and policy.everyday == ()
    assert policy.digest(["abc"]) == "c5d5e4fb23007032e44eb3d218f7117b4c39f311d37e53f6023cbc5ef322f43f"
    again = json.loads(policy.to_json())
    assert again == json.loads(VERSION_1) and "everyday" not in again
    clip, z = worlds.tiny_clip(), worlds.pictures()
    judged = torch.tensor([v.probabilities["gore"] for v in policy.judge(clip, z)], dtype=torch.float64)
    by_hand = worlds.by_hand(clip, z, policy.concepts[0], templates=("{}",), allow=("a statue",))
    torch.testing.assert_close(judged, by_hand, rtol=1e-4, atol=1e-6)


def test_a_file_from_before_can_be_given_everyday_texts():
    old = SafetyPolicy.from_json(VERSION_1)
    assert old.changed(strictness="low").version == 1
    new = old.changed(everyday=("a photo",))
    assert new.version == 2 and new.everyday == ("a photo",) and new.digest() != old.digest()
    assert SafetyPolicy.from_json(new.to_json()) == new


def test_everyday_texts_are_in_the_file_and_in_the_hash():
    named, none, open_ = (worlds.policy(everyday=e) for e in (("a photo",), (), None))
    assert json.loads(named.to_json())["everyday"] == ["a photo"]
    assert json.loads(open_.to_json())["everyday"] is None
    assert len({p.digest() for p in (named, none, open_)}) == 3
    for policy in (named, none, open_):
        assert SafetyPolicy.from_json(policy.to_json()) == policy
    content = json.loads(named.to_json())
    for damage in ({"everyday": "a photo"}, {"everyday": [""]}, {"everyday": [3]}, {"everyday": {}}):
        with pytest.raises(ValueError):
            SafetyPolicy.from_json(json.dumps({**content, "checksum": None, **damage}))
    with pytest.raises(ValueError, match="lacks everyday"):
        SafetyPolicy.from_json(json.dumps({k: v for k, v in content.items() if k != "everyday"}))
    with pytest.raises(ValueError, match="unknown entries: everyday"):
        SafetyPolicy.from_json(json.dumps({**content, "version": 1}))


def test_an_earlier_and_todays_name_together_are_no_policy():
    content = json.loads(earlier(worlds.policy()))
    del content["checksum"]
    SafetyPolicy.from_json(json.dumps(content))
    with pytest.raises(ValueError, match="views"):
        SafetyPolicy.from_json(json.dumps({**content, "augmentations": ["whole"]}))
    for broken in (3, [["whole"]], ["sideways"], "whole"):
        with pytest.raises(ValueError):
            SafetyPolicy.from_json(json.dumps({**content, "views": broken}))


@given(
    threshold=st.floats(1e-9, 1 - 1e-9),
    texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=6, unique=True),
    strictness=st.one_of(st.sampled_from(["low", "medium", "high"]), st.floats(-10, 10)),
)
def test_json_keeps_every_bit_of_any_policy(threshold, texts, strictness):
    concept = Concept("x", tuple(texts[:1]), tuple(texts[1:]), threshold)
    policy = SafetyPolicy((concept,), strictness=strictness)
    assert SafetyPolicy.from_json(policy.to_json()) == policy


def test_concepts_may_be_given_as_plain_dictionaries():
    entry = {"name": "gore", "unsafe": ["a wound"], "safe": ["an arm"], "threshold": 0.4}
    policy = SafetyPolicy([entry])
    assert policy.concepts == (Concept("gore", ("a wound",), ("an arm",), 0.4),)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"concepts": ()}, "no concept"),
        ({"concepts": (worlds.GORE, worlds.GORE)}, "two concepts"),
        ({"concepts": ("gore",)}, "expected an object"),
        ({"concepts": "gore"}, "expected a list"),
        ({"allow": ("",)}, "not empty"),
        ({"allow": ("blood",)}, "both unsafe and safe"),
        ({"templates": ()}, "at least one template"),
        ({"templates": ("a photo",)}, "no {}"),
        ({"strictness": "extreme"}, "low, medium, high"),
        ({"strictness": math.nan}, "log-odds"),
        ({"strictness": True}, "log-odds"),
        ({"strictness": 11}, "log-odds"),
        ({"augmentations": ()}, "whole, mirror, corners"),
        ({"augmentations": ("whole", "whole")}, "each once"),
        ({"augmentations": ("sideways",)}, "whole, mirror, corners"),
        ({"size_rule": "guess"}, "resize"),
        ({"version": 3}, "version"),
        ({"version": True}, "version"),
        ({"version": 1, "everyday": ("a star",)}, "version 1 has no everyday"),
        ({"everyday": ("",)}, "not empty"),
        ({"everyday": "a star"}, "expected a list"),
        ({"everyday": ("blood",)}, "everyday"),
        ({"model": 3}, "expected a text or nothing"),
    ],
)
def test_a_policy_that_cannot_be_trusted_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        worlds.policy(**changes)


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 1.1, math.nan, math.inf, True, "0.5", None])
def test_thresholds_outside_0_to_1_are_refused(threshold):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Concept("gore", ("blood",), ("an arm",), threshold)


@pytest.mark.parametrize(
    ("unsafe", "safe"),
    [((), ("an arm",)), (("",), ("an arm",)), ((" ",), ("an arm",)), (("blood",), (None,))],
)
def test_empty_anchors_are_refused(unsafe, safe):
    with pytest.raises(ValueError, match="anchor"):
        Concept("gore", unsafe, safe)


def test_a_concept_without_safe_anchor_needs_an_allow_list():
    alone = Concept("gore", ("blood",), ())
    with pytest.raises(ValueError, match="no safe anchor"):
        SafetyPolicy((alone,))
    assert SafetyPolicy((alone,), allow=("a statue",)).concepts == (alone,)


def damaged(change):
    content = json.loads(worlds.policy().to_json())
    del content["checksum"]
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"format": "latent-clip-safety-policy"}',
        worlds.policy().to_json()[:-20],
        worlds.policy().to_json().replace("0.5", "NaN", 1),
        worlds.policy().to_json().replace('"safe"', '"unsafe"', 1),
        "[" * 100_000,
        damaged(lambda c: c.pop("concepts")),
        damaged(lambda c: c.update(concepts=[])),
        damaged(lambda c: c.update(concepts={"gore": 1})),
        damaged(lambda c: c["concepts"][0].update(threshold="0.5")),
        damaged(lambda c: c["concepts"][0].update(treshold=0.5)),
        damaged(lambda c: c.update(allow="statue")),
        damaged(lambda c: c.update(format="something else")),
        damaged(lambda c: c.update(version=99)),
        damaged(lambda c: c.update(version="1", everyday=None)),
        damaged(lambda c: c.update(version=True)),
        damaged(lambda c: c.update(surprise=1)),
    ],
)
def test_damaged_json_is_an_error_and_never_a_guess(text):
    with pytest.raises(ValueError):
        SafetyPolicy.from_json(text)


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_a_cut_or_spliced_file_never_gives_another_policy(start, length):
    text = worlds.policy().to_json()
    start %= len(text)
    broken = text[:start] + text[start + length :]
    try:
        read = SafetyPolicy.from_json(broken)
    except ValueError:
        return
    assert read == worlds.policy()  # white space, or the checksum alone, was lost


def test_a_file_changed_by_hand_says_so_or_drops_its_checksum():
    content = json.loads(worlds.policy().to_json())
    content["concepts"][0]["threshold"] = 0.9
    with pytest.raises(ValueError, match="checksum"):
        SafetyPolicy.from_json(json.dumps(content))
    del content["checksum"]
    assert SafetyPolicy.from_json(json.dumps(content)).thresholds[0] == 0.9


def test_strictness_moves_every_threshold_the_right_way():
    base = worlds.policy(concepts=(worlds.GORE, Concept("nudity", ("naked",), ("clothed",), 0.9)))
    low, medium, high = (base.changed(strictness=word).thresholds for word in ("low", "medium", "high"))
    assert medium == (0.5, 0.9)
    assert all(h < m < lo for h, m, lo in zip(high, medium, low, strict=True))
    assert all(0 < t < 1 for s in (-10, 10) for t in base.changed(strictness=s).thresholds)
    shifts = [math.log(t / (1 - t)) for each in (low, high) for t in each[:1]]
    assert shifts == pytest.approx([2.0, -2.0])  # 7 times larger odds, and 7 times smaller ones
    odds = [t / (1 - t) for t in base.changed(strictness=1.5).thresholds]
    assert odds == pytest.approx([math.exp(-1.5), 9 * math.exp(-1.5)])


@pytest.mark.parametrize(
    "changes",
    [
        {"allow": ("a statue",)},
        {"templates": ("{}",)},
        {"strictness": "high"},
        {"augmentations": ("whole", "mirror")},
        {"concepts": (worlds.GORE,)},
        {"concepts": (Concept("gore", worlds.GORE.unsafe, worlds.GORE.safe, 0.51), worlds.NUDITY)},
    ],
)
def test_the_hash_changes_with_whatever_changes_a_verdict(changes):
    assert worlds.policy(**changes).digest() != worlds.policy().digest()


def test_the_hash_ignores_titles_and_knows_the_model():
    assert worlds.policy(name="other", description="other").digest() == worlds.policy().digest()
    assert worlds.policy().digest(["a"]) != worlds.policy().digest(["b"])


def test_own_concepts_one_per_line():
    text = "# mine\n\ngore: a wound | blood // an arm | a bandage\n  spiders :a spider//a beetle"
    gore, spiders = parse_concepts(text, 0.3)
    assert gore == Concept("gore", ("a wound", "blood"), ("an arm", "a bandage"), 0.3)
    assert spiders == Concept("spiders", ("a spider",), ("a beetle",), 0.3)
    assert parse_concepts(" \n# nothing\n") == ()
    wide = "＃ mine\n\ngore：a wound ｜ blood ／／ an arm ｜ a bandage\n  spiders ：a spider／／a beetle"
    assert parse_concepts(wide, 0.3) == (gore, spiders)  # as Chinese keyboards have it


@pytest.mark.parametrize(
    "line",
    ["gore", "gore: blood", "gore: // an arm", "gore: blood //", ": a // b", "g: a | // b", "g: a // b // c"],
)
def test_a_line_that_cannot_be_read_is_named(line):
    with pytest.raises(ValueError, match="line 2 of the concepts"):
        parse_concepts(f"ok: a // b\n{line}")


def test_only_some_categories():
    some = SafetyPolicy.preset("i2p").only(["sexual", "violence"])
    assert [concept.name for concept in some.concepts] == ["violence", "sexual"]
    with pytest.raises(ValueError, match="no concept 'nudity'"):
        SafetyPolicy.preset("i2p").only(["nudity"])
    with pytest.raises(ValueError, match="no concept"):
        SafetyPolicy.preset("i2p").only([])


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["concepts"][0].update(safe=["a toy"]),
        lambda c: c.update(allow=["a statue"]),
        lambda c: c.update(everyday=["a photo"]),
        lambda c: c["concepts"][0].update(threshold=0.9),
        lambda c: None,
    ],
)
def test_calibrated_thresholds_without_a_checksum_are_refused(change):
    """Nothing else tells that the texts are those of the calibration."""
    content = json.loads(worlds.policy(model="b75b58200cb6a692").to_json())
    change(content)
    del content["checksum"]
    with pytest.raises(ValueError, match="set its model to null"):
        SafetyPolicy.from_json(json.dumps(content))
    assert SafetyPolicy.from_json(json.dumps({**content, "model": None})).model is None
