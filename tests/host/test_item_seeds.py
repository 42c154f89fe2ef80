"""A seed is told of the very numbers that it made, whatever carried them, and of nothing else."""

from __future__ import annotations

import re

import pytest
from test_race_nodes import Track


@pytest.fixture
def track(host, graph, sdxl_clip):
    return Track(host, graph, sdxl_clip)


class Told:
    """What Select says of the seeds of all items of a LATENT, in their order."""

    def __init__(self, track, latent, count, **widgets):
        node = track.graph.add(
            "LatentCLIP_Select", latent=latent, reward=track.reward(), k=count, sort=False, **widgets
        )
        self.seeds, self.captions = (track.graph.add("Probe_Values", value=node[n]) for n in (6, 7))

    def read(self, result):
        """-> the seeds, None where that socket runs nothing, and those in the captions."""
        named = [re.search(r"seed (\d+)", caption) for caption in result.values(self.captions)]
        ran = self.seeds in result.entry["outputs"]
        written = [int(found[1]) if found else None for found in named]
        return result.values(self.seeds) if ran else None, written


def test_a_seed_stays_with_what_it_made(track):
    """Whole, in part, turned round and beside latents of no seed."""
    race = track.race(track.empty(), finish=3)
    part = track.graph.add("LatentFromBatch", samples=race[0], batch_index=1, length=2)[0]
    rest = track.graph.add(
        "LatentCLIP_Select", latent=race[0], reward=track.reward(), k=1
    )[1]  # fmt: skip
    other = track.ksampler(track.empty(), seed=123)[0]
    joined = track.graph.add("Probe_JoinLatents", first=race[0], second=other)[0]
    before = track.graph.add("Probe_JoinLatents", first=other, second=race[0])[0]
    told = [Told(track, race[0], 3), Told(track, part, 2), Told(track, rest, 2), Told(track, joined, 4)]
    told += [Told(track, before, 4), Told(track, joined, 4, seed=track.graph.add("PrimitiveInt", value=9)[0])]
    shown = track.graph.add("Probe_Values", value=race[3])
    result = track.run()
    seeds = result.values(shown)
    found = [each.read(result) for each in told]
    assert len(set(seeds)) == 3
    assert found[:3] == [(seeds, seeds), (seeds[1:], seeds[1:]), (seeds[1:], seeds[1:])]
    assert found[3] == (None, [*seeds, None])
    assert found[4][0] is None and found[4][1][0] is None
    assert found[5] == ([9] * 4, [9] * 4)  # what is wired goes first


def test_what_is_sampled_from_a_winner_has_not_its_seed(track):
    """KSampler, ReNO, a race that resamples, by the numbers and not by who was asked."""
    race = track.race(track.empty(), finish=2)[0]
    again = {
        "KSampler": track.ksampler(race, seed=123, denoise=0.5)[0],
        "ReNO": track.reno(race, iterations=1, method="best_of_n", denoise=0.5)[0],
        "resampled": track.race(race, method="resample", sampler_name="euler_ancestral", finish=1)[0],
    }
    told = {name: Told(track, latent, 2) for name, latent in again.items()}
    for name in ("ReNO", "resampled"):
        track.dump(again[name], f"again {name}")
    result = track.run()
    assert {name: each.read(result) for name, each in told.items()} == {
        name: (None, [None, None]) for name in again
    }
    assert not any("item_seeds" in track.dumped(f"again {name}") for name in ("ReNO", "resampled"))
