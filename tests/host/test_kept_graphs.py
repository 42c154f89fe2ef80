"""What a Latent-CLIP captured stays with it from run to run, and goes when the host wants its memory.

Without a GPU on a stand-in for CUDA: whose it is, when it ends, what is told of it and the numbers are real.
"""

from __future__ import annotations

import pytest
import torch
from reno_bench import Bench, save_clip
from safety_bench import GATE, POLICY

STRENGTH = 0.1


class Runs:
    """Runs of one workflow: a guided KSampler, and all that asks the same Latent-CLIP about what it made."""

    def __init__(self, host, new_graph, file):
        self.host, self.new_graph, self.file = host, new_graph, file

    def bench(self, on=True):
        bench = Bench(self.host, self.new_graph(), self.file)
        bench.clip = bench.graph.add("Probe_StandInGraphs", latent_clip=bench.clip[0], on=on)
        return bench

    def __call__(self, seed, name, way=None, guided=True):
        """One run. -> what the Latent-CLIP keeps afterwards"""
        bench = self.bench()
        reward, model = bench.reward(), bench.model[0]
        if guided:
            model = bench.graph.add(
                "LatentCLIP_Guidance", model=model, reward=reward, strength=STRENGTH, start=0.0, end=1.0
            )[0]
        made = bench.ksampler(bench.empty(2), model, steps=4, denoise=0.9, seed=seed)[0]
        score = bench.graph.add("LatentCLIP_Score", latent_clip=bench.clip[0], latent=made, text="a circle")
        best = bench.graph.add("LatentCLIP_Select", latent=score[0], reward=reward, k=1)
        policy = bench.graph.add(
            "LatentCLIP_SafetyPolicy",
            latent_clip=bench.clip[0],
            **{**POLICY, "own_concepts": "red: a red square // a blue circle"},
        )
        gate = bench.graph.add("LatentCLIP_SafetyGate", policy=policy[0], latent=best[0], **GATE)
        bench.dump(made, name)
        after = gate[5]
        if way is not None:
            after = bench.graph.add("Probe_HostFrees", latent_clip=bench.clip[0], way=way, after=after)[1]
        kept = bench.graph.add("Probe_KeptGraphs", latent_clip=bench.clip[0], after=after)
        shown = bench.graph.add("Probe_Values", value=kept[0])
        scores = bench.graph.add("Probe_Values", value=score[2])
        result = bench.run()
        self.latest = self.samples(name), result.values(scores)
        return result.values(shown)[0]

    def samples(self, name):
        return Bench(self.host, self.new_graph(), self.file).samples(name)

    def kept(self):
        bench = self.bench()
        found = bench.graph.add("Probe_KeptGraphs", latent_clip=bench.clip[0], after=0)
        shown = bench.graph.add("Probe_Values", value=found[0])
        return bench.run().values(shown)[0]


@pytest.fixture
def runs(host, new_graph, sdxl_clip):
    if not host.on_cpu:
        pytest.skip("the stand-in is for hosts without a GPU")
    made = Runs(host, new_graph, sdxl_clip)
    yield made
    bench = made.bench(on=False)
    kept = bench.graph.add("Probe_KeptGraphs", latent_clip=bench.clip[0], after=0)
    bench.graph.add("Probe_Values", value=kept[0])
    bench.run()


def plain(runs, seed, name):
    """The same run in a host that captures nothing."""
    bench = runs.bench(on=False)
    kept = bench.graph.add("Probe_KeptGraphs", latent_clip=bench.clip[0], after=0)
    bench.graph.add("Probe_Values", value=kept[0])
    bench.run()
    runs.bench, before = (lambda on=True: Bench(runs.host, runs.new_graph(), runs.file)), runs.bench
    try:
        found = runs(seed, name)
        assert found["kept"] == 0
        return runs.latest
    finally:
        runs.bench = before


def test_the_second_run_captures_nothing_and_all_nodes_are_served(runs):
    first = runs(31, "first")
    assert first["kept"] == 1 and first["gradient"] == [True]  # which serves those without too
    second = runs(32, "second")
    assert second["captured"] == first["captured"] and second["turns"] > first["turns"]
    found = runs.latest
    wanted = plain(runs, 32, "plain")
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-4)
    assert found[1] == pytest.approx(wanted[1], abs=1e-5)


def test_a_score_alone_is_served_from_its_second_run_on(runs):
    runs.host.post("/free", {"unload_models": True})
    turns = [runs(seed, "alone", guided=False)["turns"] for seed in (41, 42, 43)]
    assert turns[2] > turns[1]


@pytest.mark.parametrize("way", ["a little", "all", "less"])
def test_what_the_host_frees_is_gone_and_made_anew(runs, way):
    before = runs(51, "before")
    assert before["beside weights"] == [1000, 1000] and before["whole"]
    freed = runs(52, "freed", way=way)
    assert freed["kept"] == 0 and freed["beside weights"][0] == 0
    after = runs(53, "after")
    found = runs.latest
    assert after["kept"] == 1 and after["captured"] > freed["captured"] and after["whole"]
    wanted = plain(runs, 53, "plain")
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["another clone", "more"])
def test_what_is_not_freed_stays(runs, way):
    before = runs(61, "before")
    after = runs(62, "after", way=way)
    assert after["kept"] == 1 and after["captured"] == before["captured"] and after["whole"]


def test_free_by_its_route(runs):
    assert runs(71, "before")["kept"] == 1
    runs.host.post("/free", {"unload_models": True})
    bench = runs.bench()
    bench.dump(bench.empty(), "anything")  # the route is heard between two runs
    bench.run()
    assert runs.kept()["kept"] == 0


def test_out_of_memory(runs):
    assert runs(81, "before")["kept"] == 1
    with pytest.raises(AssertionError, match="no memory, says the test"):
        runs(82, "after", way="out of memory")
    assert runs.kept()["kept"] == 0


def test_they_are_of_one_patcher_among_the_loaded(runs):
    runs(91, "one")
    assert runs(92, "two")["patchers"] == 1


def test_the_hosts_own_switch_ends_it(checkout, new_host, new_graph, tmp_path):
    if "--disable-cuda-graphs" not in (checkout / "comfy" / "cli_args.py").read_text(encoding="utf-8"):
        pytest.skip("this ComfyUI captures nothing itself, and has no switch for it")
    with new_host(checkout, tmp_path, arguments=["--disable-cuda-graphs"]) as server:
        graph = new_graph()
        clip = graph.add("LatentCLIP_Load", file=save_clip(server.models), dtype="float32")
        kept = graph.add("Probe_KeptGraphs", latent_clip=clip[0], after=0)
        shown = graph.add("Probe_Values", value=kept[0])
        assert server.run(graph).require_ok().values(shown) == [None]
