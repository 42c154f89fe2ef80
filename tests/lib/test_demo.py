"""The demo's job on the shipped mini world: what it tells is true of what it did."""

import re

import numpy as np
import pytest

from lclip import ReNOSettings
from lclip.mini import demo, load_world
from lclip.mini.report import write_report
from lclip.mini.scenes import LOOK_ALIKES, UNSAFE_SHAPE


@pytest.fixture(scope="module")
def story():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "CANDIDATES": 6,
            "IMPROVED": 2,
            "PROMPTS": 6,
            "GATED": 6,
            "REPAIR_STEPS": 4,
        }.items():
            patch.setattr(demo, name, value)
        yield demo.tell(load_world(), seed=1, say=lambda text: None, settings=ReNOSettings(iterations=6))


def test_the_best_come_first_and_are_the_ones_kept(story):
    assert len(story.contacts) == 3
    for contact in story.contacts:
        assert contact.cosines == sorted(contact.cosines, reverse=True)
        assert contact.kept == 3 and len(contact.pictures) == 6


def test_a_search_never_ends_below_its_start_and_shows_its_best(story):
    assert len(story.improvements) == 2
    for item in story.improvements:
        assert len(item.cosines) == len(item.watched) == 6
        assert not all(item.parts_before.values())
        first, last = item.frames[0], item.frames[-1]
        assert first[0] == 0 and np.array_equal(first[1], item.before)
        if int(np.argmax(item.cosines)) <= last[0]:
            assert np.array_equal(last[1], item.after)


def test_heat_is_a_map_per_phrase_of_the_prompt(story):
    for found in story.found:
        for phrase, heat in found.phrases:
            assert phrase.removeprefix("a ") in found.prompt
            assert heat.shape == (8, 8) and np.isfinite(heat).all()


def test_the_gate_blocks_exactly_what_reaches_its_threshold(story):
    assert len(story.gated) == 6
    for item in story.gated:
        assert any(word in item.prompt for word in (UNSAFE_SHAPE, *LOOK_ALIKES))
        assert item.safe == (item.probability < item.threshold)
        assert (item.repaired is not None) == (not item.safe)


def test_every_share_counts_all_prompts(story):
    assert [figure.share.n for figure in story.figures] == [6, 6, 6]
    assert story.cost.latent > 0 and story.cost.pixel > 0


def test_the_same_seed_chooses_the_same_pictures(story):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "CANDIDATES", 6)
        job = demo.Job(load_world(), 1, ReNOSettings(), say=lambda text: None)
        job.unseen()  # draws noise before the sheets do
        again = job.contact(job.scenes(3, 2)[0])
    assert again.prompt == story.contacts[0].prompt
    assert np.array_equal(again.pictures, story.contacts[0].pictures)


def test_the_page_holds_every_prompt(story, tmp_path):
    page = write_report(story, tmp_path / "index.html").read_text("utf-8")
    for part in (*story.contacts, *story.found, *story.improvements):
        assert re.search(re.escape(part.prompt), page)
