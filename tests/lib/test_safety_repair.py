"""What a search has found is believed only with room to spare in every augmentation, never when in doubt."""

import math

import pytest
import safety_worlds as worlds
import torch

from lclip import Concept, ReNOSettings, SafetyJudge, SafetyReward, reno
from lclip.safety import reward as safety_reward
from lclip.safety.repair import HEADROOM, ROOM, believed

Z = worlds.pictures(12)


@pytest.fixture(scope="module")
def clip():
    return worlds.tiny_clip()


def corners(z):
    """The four corner crops of a policy's augmentations, by hand: moved by one cell, the edge repeated."""
    padded = torch.nn.functional.pad(z, (1, 1, 1, 1), mode="replicate")
    size = z.shape[-1]
    for rows in (0, 2):
        for columns in (0, 2):
            yield padded[..., rows : rows + size, columns : columns + size]


def worst(clip, z, concept):
    """The highest log-odds over all augmentations, each judged by hand."""
    augmented = [z, z.flip(-1), *corners(z)]
    return torch.stack([torch.logit(worlds.by_hand(clip, each, concept)) for each in augmented]).amax(0)


def test_room_is_asked_of_every_view_and_concept(clip):
    ranked = worst(clip, Z, worlds.GORE).sort().values
    limit = float((ranked[5] + ranked[6]) / 2) + ROOM
    gore = Concept("gore", worlds.GORE.unsafe, worlds.GORE.safe, 1 / (1 + math.exp(-limit)))
    nudity = Concept("nudity", worlds.NUDITY.unsafe, worlds.NUDITY.safe, 1 - 1e-9)
    policy = worlds.policy(concepts=(gore, nudity))
    got = believed(SafetyJudge(policy, clip), Z)
    assert got == (worst(clip, Z, worlds.GORE) < limit - ROOM).tolist()
    assert sum(got) == 6
    impossible = Concept("nudity", worlds.NUDITY.unsafe, worlds.NUDITY.safe, 1e-9)
    assert not any(believed(SafetyJudge(worlds.policy(concepts=(gore, impossible)), clip), Z))


@pytest.mark.parametrize("augmentations", [("whole",), ("mirror",), ("whole", "mirror", "corners")])
@pytest.mark.parametrize("strictness", ["low", "high"])
def test_what_is_believed_is_safe_by_the_policy_too(clip, augmentations, strictness):
    policy = worlds.halved(clip, Z, share=0.8, augmentations=augmentations, strictness=strictness)
    judge = SafetyJudge(policy, clip)
    for yes, verdict in zip(believed(judge, Z), judge(Z), strict=True):
        assert verdict.safe or not yes


@pytest.mark.parametrize("kind", worlds.BROKEN)
def test_a_broken_item_is_never_believed(clip, kind):
    judge = SafetyJudge(worlds.policy(strictness=-10.0), clip)
    z = worlds.pictures()
    assert all(believed(judge, z))
    assert believed(judge, worlds.BROKEN[kind](z)) == [True, False, True, True, True, True]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_model_is_never_believed(value):
    clip = worlds.tiny_clip()
    clip.visual.proj.data.fill_(value)
    assert not any(believed(SafetyJudge(worlds.policy(strictness=-10.0), clip), Z))


def test_a_repair_searches_as_far_as_it_has_to(clip):
    """What stops at the headroom of other searches cannot be believed; at that of a repair it can."""
    policy = worlds.halved(clip, Z, share=0.1)
    for headroom, enough in ((safety_reward.HEADROOM, False), (HEADROOM, True)):
        reward = SafetyReward(policy, clip, weight=10.0, headroom=headroom)
        settings = ReNOSettings(iterations=200, lr=20.0, target=reward.target)
        found = reno(lambda x: 6 * x, Z / 6, reward, settings)
        stopped = found.best_reward >= reward.target
        assert stopped.any()
        below = -reward.judge.excess(found.best_latents[stopped], ("whole",))
        assert bool((below >= ROOM).all() if enough else (below < ROOM).any())


def test_a_search_that_fools_the_verdict_is_not_believed_on_its_word(clip):
    """After a search many more items are safe by the verdict than are believed."""
    policy = worlds.halved(clip, Z, share=0.1)
    reward, judge = SafetyReward(policy, clip, weight=10.0), SafetyJudge(policy, clip)
    settings = ReNOSettings(iterations=30, lr=20.0, target=reward.target)
    found = reno(lambda x: 6 * x, Z / 6, reward, settings).best_latents
    safe, yes = sum(v.safe for v in judge(found)), sum(believed(judge, found))
    assert yes < safe
