"""A policy's texts: read word for word and to the end, told apart, everyday texts beside every concept."""

import json
import math

import pytest
import safety_worlds as worlds
import torch
from tiny import random_model, tiny_config

import lclip
from lclip import Concept, SafetyJudge, SafetyPolicy, SafetyReward, calibrate
from lclip.model.bpe import BPETokenizer
from lclip.safety import anchors
from lclip.safety.everyday import EVERYDAY, OF_WORLDS, without
from lclip.safety.report import report_json, report_text

Z = worlds.pictures()
LONG = "a photo of a person"  # five of a context of 8, with its start and end: 7


@pytest.fixture(scope="module")
def clip():
    return worlds.tiny_clip()


def bpe_clip(seed=0):
    """Random weights that read CLIP's vocabulary."""
    torch.manual_seed(seed)
    config = lclip.LatentCLIPConfig(8, 4, 2, 4, 16, 1, 2, 16, 1, 2, 77, 49408)
    return lclip.LatentCLIP(config, tokenizer=BPETokenizer()).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def open_clip():
    return bpe_clip()


ASKED = {
    "judge": lambda policy, model: SafetyJudge(policy, model),
    "reward": lambda policy, model: SafetyReward(policy, model),
    "calibration": lambda policy, model: calibrate(policy, model, Z, Z),
    "two models": lambda policy, model: SafetyJudge(policy, [worlds.tiny_clip(seed=9), model]),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    ("concept", "words"),
    [
        (Concept("bones", ("cranium",), ("pebble",)), "'bones' says 'cranium'.*the word cranium"),
        (Concept("bones", ("blood", "a skull and bones"), ("arm",)), "the words skull, and, bones"),
        (Concept("bones", ("blood",), ("arm", "a pebble")), "'a pebble'.*the word pebble"),
    ],
)
def test_words_that_a_model_does_not_know_are_refused_by_name(clip, asked, concept, words):
    with pytest.raises(ValueError, match=words):
        ASKED[asked](worlds.policy(concepts=(worlds.GORE, concept)), clip)


def test_a_preset_in_other_words_is_refused_by_name_on_the_mini_world(world):
    with pytest.raises(ValueError, match="'i2p'.*'hate'.*does not know the words hate, symbol:"):
        SafetyPolicy.preset("i2p").judge(world.latent_clip, torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize("field", ["allow", "everyday"])
def test_unknown_words_of_the_shared_texts_are_refused_too(clip, field):
    with pytest.raises(ValueError, match="does not know the word zebra"):
        SafetyJudge(worlds.policy(**{field: ("a zebra",)}), clip)


def test_unknown_words_of_templates_are_refused_too(clip):
    with pytest.raises(ValueError, match="does not know the word sketch"):
        SafetyJudge(worlds.policy(templates=("a sketch of {}",)), clip)


@pytest.mark.parametrize("asked", ASKED)
def test_texts_that_are_cut_are_refused_by_name(clip, asked):
    unsafe, safe = "a naked person " * 3 + "blood", "a naked person " * 3 + "arm"
    with pytest.raises(ValueError, match="'nudity' says 'a naked person.*blood'.*is cut.* 8 tokens"):
        ASKED[asked](worlds.policy(concepts=(Concept("nudity", (unsafe,), (safe,)),)), clip)


def test_a_text_may_be_cut_by_its_template_alone(clip):
    concept = Concept("nudity", ("a naked person",), (LONG,))
    SafetyJudge(worlds.policy(concepts=(concept,), templates=("{}",)), clip)
    with pytest.raises(ValueError, match="'a photo of a person', which is cut"):
        SafetyJudge(worlds.policy(concepts=(concept,), templates=("{}", "a photo of {}")), clip)


def test_clips_77_tokens_are_the_limit_of_its_own_policies(open_clip):
    beginning = "a very long description of a scene, " * 12
    concept = Concept("gore", (beginning + "full of blood",), (beginning + "full of flowers",))
    with pytest.raises(
        ValueError, match=r"'gore' says 'a very long.*full of blood', which is cut.*77 tokens"
    ):
        SafetyJudge(SafetyPolicy((concept,)), open_clip)


@pytest.mark.parametrize(
    ("unsafe", "safe", "other"),
    [
        ("blood", "BLOOD", {}),
        ("a naked person", "a  naked   person.", {}),
        ("blood", "arm", {"allow": ("Blood!",)}),
        ("blood", "arm", {"everyday": ("Blood",)}),
    ],
)
def test_an_unsafe_text_that_reads_like_a_harmless_one_is_refused(clip, unsafe, safe, other):
    concept = Concept("gore", (unsafe,), (safe,))
    with pytest.raises(ValueError, match=f"'gore' calls '{unsafe}'.*harmless.*same tokens"):
        SafetyJudge(worlds.policy(concepts=(concept,), **other), clip)


def test_texts_that_read_the_same_on_one_side_count_once(clip):
    again = Concept("gore", ("a wound", "blood", "Blood"), ("an arm", "a bandage", "A BANDAGE"))
    once, twice = (SafetyJudge(worlds.policy(concepts=(c,)), clip) for c in (worlds.GORE, again))
    torch.testing.assert_close(once.probabilities(Z), twice.probabilities(Z))


def test_everyday_texts_compete_with_every_concept(clip):
    everyday = ("a statue", "a photo")
    verdicts = worlds.policy(everyday=everyday).judge(clip, Z)
    for concept in (worlds.GORE, worlds.NUDITY):
        wanted = worlds.by_hand(clip, Z, concept, allow=everyday)
        got = torch.tensor([v.probabilities[concept.name] for v in verdicts], dtype=torch.float64)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_a_text_that_is_safe_and_everyday_counts_once(clip):
    judges = [SafetyJudge(worlds.policy(allow=("a statue",), everyday=e), clip) for e in ((), ("A statue",))]
    torch.testing.assert_close(*(judge.probabilities(Z) for judge in judges))


def test_a_model_of_clips_words_has_the_shipped_everyday_texts(open_clip):
    gore = Concept("gore", ("a bloody wound",), ("a bandaged arm",))
    default, none = (SafetyJudge(SafetyPolicy((gore,), everyday=e), open_clip) for e in (None, ()))
    assert default.policy.everyday == EVERYDAY and len(EVERYDAY) == len(set(EVERYDAY)) > 80
    assert (default.probabilities(Z) < none.probabilities(Z)).all()
    stated = SafetyJudge(SafetyPolicy((gore,), everyday=EVERYDAY), open_clip)
    assert default.digest == stated.digest != none.digest
    assert set(SafetyPolicy.preset("i2p").everyday) == set(EVERYDAY)


def test_a_closed_vocabulary_has_its_own_worlds_texts_or_none(clip, world):
    assert SafetyJudge(worlds.policy(), clip).policy.everyday == ()
    bones = SafetyPolicy((Concept("bones", ("skull",), ("ring",)),))
    everyday = SafetyJudge(bones, world.latent_clip).policy.everyday
    assert everyday == OF_WORLDS["mini"] and "a star" in everyday and not any("skull" in t for t in everyday)


def test_what_a_concept_is_about_is_not_everyday_to_it(world):
    stars = SafetyPolicy((Concept("stars", ("star",), ("a cross",)),))
    assert "a star" not in SafetyJudge(stars, world.latent_clip).policy.everyday
    everyday = ("a person", "a group of people", "an old dog", "a dog", "a cat")
    assert without(everyday, ["dog"]) == ("a person", "a group of people", "a cat")
    assert without(everyday, ["a person in a fight", "the Cat"]) == everyday[:4]
    more = SafetyPolicy.preset("i2p")
    changed = more.changed(concepts=(*more.concepts, Concept("dogs", ("a dog",), ("a wolf",))))
    assert set(more.everyday) - set(changed.everyday) == {"a dog"}


def test_a_text_that_is_everyday_and_unsafe_is_refused_where_both_are_stated():
    with pytest.raises(ValueError, match="'dogs' calls 'a dog' unsafe.*everyday"):
        SafetyPolicy((Concept("dogs", ("a dog",), ("a wolf",)),), everyday=("a dog",))


def test_a_picture_of_none_of_the_subjects_is_little_of_each(world):
    """Stars, squares and so on, in a policy that knows skulls and rings only: without everyday texts the
    skull's probability is anything; with them it is small, and the report says what that means.
    """
    prompts = [f"a {c} {s} on a {g} ground" for c in ("red", "blue") for s in ("star", "square", "cross")
               for g in ("white", "black")]  # fmt: skip
    noise = torch.randn(len(prompts), 4, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        z = world.generate(prompts, noise)
    skulls = world.generate(["a red skull on a white ground"] * 4, noise[:4])
    policy = SafetyPolicy((Concept("skull", ("a skull",), ("a mushroom", "a ring")),))
    judges = [SafetyJudge(policy.changed(everyday=e), world.latent_clip) for e in ((), None)]
    before, after = (judge.probabilities(z)[:, 0] for judge in judges)
    assert (after <= before).all() and before.median() > 10 * after.median() and after.median() < 0.01
    assert judges[1].probabilities(skulls).median() > 0.5
    verdicts = judges[1](torch.cat([z, skulls]))
    assert sum(v.none_of_these for v in verdicts[: len(z)]) >= len(z) - 2
    assert not any(v.none_of_these for v in verdicts[len(z) :])
    assert not any(v.none_of_these for v in judges[0](z))
    said = [v for v in verdicts if v.none_of_these][0]
    assert said.safe and said.reason.startswith("none of these: skull ")
    assert "none of these; nearest skull" in report_text(judges[1], verdicts)
    content = json.loads(report_json(judges[1], verdicts))
    assert [v["none_of_these"] for v in content["verdicts"]] == [v.none_of_these for v in verdicts]


@pytest.mark.parametrize(("share", "none"), [(0.3, False), (0.45, False), (0.55, True), (0.9, True)])
def test_none_of_these_is_said_where_everyday_texts_have_more_than_half_of_the_softmax(world, share, none):
    policy = SafetyPolicy((Concept("skull", ("a skull",), ("a mushroom", "a ring")),))
    judge = SafetyJudge(policy, world.latent_clip)
    (sides,) = judge._anchors.sides
    own, everyday = [*sides.unsafe, *sides.safe], sides.everyday
    logits = torch.zeros(1, 1 + max(*own, *everyday), dtype=torch.float64)
    logits[:, everyday] = math.log(share / len(everyday))
    logits[:, own] = math.log((1 - share) / len(own))
    assert bool(judge._elsewhere([logits])[0]) == none


def test_calibration_states_the_everyday_texts_that_it_used(world):
    policy = SafetyPolicy((Concept("bones", ("skull",), ("ring",)),))
    found = calibrate(policy, world.latent_clip, Z, worlds.pictures(seed=3)).policy
    assert found.everyday == OF_WORLDS["mini"]
    assert SafetyPolicy.from_json(found.to_json()) == found
    assert found.digest() == SafetyJudge(found, world.latent_clip).policy.digest()


def test_two_models_share_what_both_know(clip):
    config = tiny_config([*worlds.WORDS, "star"], embed_dim=8, width=16, layers=1, heads=2)
    with_stars = random_model(config, [*worlds.WORDS, "star"])
    assert SafetyJudge(worlds.policy(), with_stars).policy.everyday == ("a star",)
    assert SafetyJudge(worlds.policy(), [with_stars, clip]).policy.everyday == ()


def test_models_that_judge_together_are_the_same_in_either_order(clip):
    both = [clip, worlds.tiny_clip(seed=3)]
    found = calibrate(worlds.policy(), both, Z, worlds.pictures(seed=3)).policy
    forward, back = SafetyJudge(found, both), SafetyJudge(found, both[::-1])
    torch.testing.assert_close(back.probabilities(Z), forward.probabilities(Z))
    for others in (clip, [clip, clip]):
        with pytest.raises(ValueError, match="was calibrated with the model"):
            SafetyJudge(found, others)


@pytest.fixture
def counted(monkeypatch):
    """A tiny model of its own, and the texts that it was asked to encode."""
    clip, asked = worlds.tiny_clip(seed=3), []
    encode = clip.encode_text
    monkeypatch.setattr(clip, "encode_text", lambda texts: asked.extend(texts) or encode(texts))
    return clip, asked


def test_a_policys_texts_are_encoded_once_for_a_model(counted):
    clip, asked = counted
    first = SafetyJudge(worlds.policy(), clip)
    number = len(asked)
    assert number > 0
    for policy in (worlds.policy(), worlds.policy(strictness="high", augmentations=("whole", "mirror"))):
        again = SafetyJudge(policy, clip, check_scale=False)
        assert len(asked) == number
        assert torch.equal(again.probabilities(Z), first.probabilities(Z)) or policy.strictness == "high"
    SafetyJudge(worlds.policy(templates=("{}",)), clip)
    assert len(asked) > number


@pytest.mark.parametrize("name", ["text_projection", "token_embedding"])
def test_a_model_that_has_changed_is_asked_again(counted, name):
    clip, asked = counted
    before = SafetyJudge(worlds.policy(), clip).probabilities(Z)
    number = len(asked)
    weight = getattr(clip, name)
    (weight if isinstance(weight, torch.Tensor) else weight.weight).data.mul_(-1)
    after = SafetyJudge(worlds.policy(), clip).probabilities(Z)
    assert len(asked) == 2 * number and not torch.allclose(before, after)


def test_what_is_kept_for_a_model_is_bounded_and_goes_with_it(counted):
    clip, _ = counted
    for word in [word for word in worlds.WORDS if word != "blood"]:
        SafetyJudge(worlds.policy(allow=(word,)), clip)
    assert len(worlds.WORDS) - 1 > anchors.KEPT
    assert len(anchors._KNOWN[clip]) == anchors.KEPT
