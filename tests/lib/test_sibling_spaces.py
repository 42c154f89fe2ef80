"""SD1.5's latents in SDXL's place: a warning where the statistics tell, and none for what is right or odd."""

import pytest
import torch
from sibling_latents import like

import lclip
from lclip.latents.reader import NativeSize
from lclip.latents.siblings import SIBLINGS, log_odds_of, sibling_doubt, sibling_doubts, statistics

SPACES = {space: NativeSize(lclip.space_named(space), 64) for space in ("sdxl", "sd1.5")}


def test_the_statistics_are_those_of_the_channels():
    z = like("sd1.5", spread=0.0)
    torch.testing.assert_close(statistics(z)[0], torch.tensor(SIBLINGS["sdxl"].means), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("own", "other"), [("sdxl", "sd1.5"), ("sd1.5", "sdxl")])
def test_the_others_latents_are_warned_of_by_name_and_ones_own_are_not(own, other):
    text = sibling_doubt(like(other), SPACES[own])
    assert text is not None and lclip.space_title(other) in text and "Load Latent-CLIP" in text
    assert sibling_doubt(like(other)[:, :, None], SPACES[own]) == text
    assert sibling_doubt(like(own), SPACES[own]) is None
    assert text in lclip.latent_doubts(like(other), SPACES[own])
    assert text in (lclip.check_latents(like(other), SPACES[own]) or "")


def test_it_is_never_a_refusal():
    assert lclip.check_latents(like("sd1.5"), SPACES["sdxl"], scale="refuse") is not None


def test_nothing_is_said_of_few_cells_broken_items_or_other_spaces():
    z = like("sd1.5")
    assert sibling_doubt(z[..., :15, :15], SPACES["sdxl"]) is None
    assert sibling_doubt(torch.full_like(z, torch.nan), SPACES["sdxl"]) is None
    z[0] = torch.nan
    assert sibling_doubt(z, SPACES["sdxl"]) is not None
    assert sibling_doubt(z, NativeSize(lclip.space_named("sd-x4"), 64)) is None


def test_what_is_like_neither_is_not_taken_for_the_other():
    source = torch.Generator().manual_seed(1)
    noise = torch.randn(20, 4, 32, 32, generator=source)
    for z in (noise, 6 * noise, torch.zeros(3, 4, 32, 32), 0.13 * like("sdxl"), 40 * like("sd1.5")):
        assert sibling_doubt(z, SPACES["sdxl"]) is None


def test_an_item_counts_less_alone_than_four_together():
    z = like("sd1.5", 40, spread=1.0)
    odds = log_odds_of(z, SIBLINGS["sdxl"])
    weak = z[(odds > 1.5) & (odds < 2.4)][:1]
    assert len(weak) == 1
    assert sibling_doubt(weak, SPACES["sdxl"]) is None
    assert sibling_doubt(weak.expand(4, -1, -1, -1), SPACES["sdxl"]) is not None


def test_of_rows_each_is_told_by_itself():
    z = torch.cat([like("sdxl"), like("sd1.5")])
    z[9] = torch.nan
    told = sibling_doubts(z, SPACES["sdxl"])
    assert told == [sibling_doubt(each[None], SPACES["sdxl"]) for each in z]
    assert not any(told[:8]) and told[9] is None and sum(map(bool, told[8:])) > 4
    assert sibling_doubts(z[:, :, None], SPACES["sdxl"]) == told
    assert not any(sibling_doubts(z[..., :15, :15], SPACES["sdxl"]))
