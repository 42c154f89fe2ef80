"""The safety nodes in a real host: what leaves by which socket, against the library in this process."""

from __future__ import annotations

import json

import numpy
import pytest
import torch
from safety_bench import CONCEPT, Bench, Z, make_clip, make_reader, middle, pictures, policy_here, scores

import lclip
from lclip.latents.neutral import neutral_latents
from lclip.safety.calibration import calibrate


@pytest.fixture(scope="module")
def clip():
    return make_clip()


@pytest.fixture
def bench(host, graph, clip):
    file = host.models / "gate.safetensors"
    if not file.exists():
        lclip.save_checkpoint(clip, file)
    return Bench(host, graph, file.name)


def test_separate_sends_each_item_to_its_own_socket(bench, clip):
    threshold = middle(clip)
    safe = [i for i, p in enumerate(scores(clip)) if p < threshold]
    blocked = [i for i in range(6) if i not in safe]
    assert len(safe) == len(blocked) == 3
    mask = numpy.arange(6 * 64, dtype=numpy.float32).reshape(6, 1, 8, 8)
    source = bench.latent(Z, noise_mask=mask, batch_index=[10, 11, 12, 13, 14, 15], extra=[1.5])
    node = bench.gate(bench.policy(own_threshold=threshold), source)
    for output, name in ((0, "out"), (1, "safe"), (2, "blocked")):
        bench.dump(node[output], name)
    all_safe, count, report = bench.see(node, 3, 4, 5)
    result = bench.host.run(bench.graph).require_ok()
    for name, indices in (("out", safe), ("safe", safe), ("blocked", blocked)):
        content = bench.read(name)
        numpy.testing.assert_array_equal(content["samples"], Z[indices].numpy())
        numpy.testing.assert_array_equal(content["noise_mask"], mask[indices])
        assert content["batch_index"].tolist() == [10 + i for i in indices]
        assert content["extra"].tolist() == [1.5]
    assert result.values(all_safe) == [False] and result.values(count) == [3]
    (text,) = result.values(report)
    for index, p in enumerate(scores(clip)):
        line = text.splitlines()[1 + index]
        assert ("BLOCKED" in line) == (index in blocked) and f"{p:.4f}"[:-1] in line and "redness" in line
    bench.dump(source, "source_afterwards")
    again = bench.host.run(bench.graph).require_ok()
    assert node not in again.executed
    numpy.testing.assert_array_equal(bench.read("source_afterwards")["samples"], Z.numpy())


@pytest.mark.parametrize("kind", ["nan", "inf", "zeros", "scaled", "noise", "huge"])
def test_broken_items_never_reach_the_safe_socket(bench, kind):
    z = Z.clone()
    z[2] = {
        "nan": torch.where(torch.arange(64).reshape(8, 8) == 5, torch.tensor(float("nan")), z[2]),
        "inf": torch.where(torch.arange(64).reshape(8, 8) == 5, torch.tensor(float("inf")), z[2]),
        "zeros": torch.zeros_like(z[2]),
        "scaled": 0.13025 * z[2],
        "noise": 14.6 * torch.randn(z[2].shape, generator=torch.Generator().manual_seed(1)),
        "huge": 1e6 * z[2],
    }[kind]
    node = bench.gate(
        bench.policy(own_threshold=0.999, strictness="custom", custom_shift=-10.0), bench.latent(z, kind)
    )
    bench.dump(node[1], "passed")
    bench.dump(node[2], "caught")
    (report,) = bench.see(node, 5)
    result = bench.host.run(bench.graph).require_ok()
    numpy.testing.assert_array_equal(bench.read("passed")["samples"], z[[0, 1, 3, 4, 5]].numpy())
    numpy.testing.assert_array_equal(bench.read("caught")["samples"], z[[2]].numpy())
    assert "item   2  BLOCKED" in result.values(report)[0]


def test_an_all_blocked_batch_runs_to_its_end_and_nothing_behind_the_safe_socket_runs(bench):
    bench.forget("nothing", "nothing_either")
    node = bench.gate(bench.policy(own_threshold=0.001), bench.latent(Z))
    upscaled = bench.graph.add(
        "LatentUpscale", samples=node[1], upscale_method="bilinear", width=128, height=128, crop="disabled"
    )
    bench.dump(upscaled[0], "nothing")
    bench.dump(node[0], "nothing_either")
    bench.dump(node[2], "everything")
    all_safe, count, report = bench.see(node, 3, 4, 5)
    result = bench.host.run(bench.graph).require_ok()
    assert not bench.exists("nothing") and not bench.exists("nothing_either")
    numpy.testing.assert_array_equal(bench.read("everything")["samples"], Z.numpy())
    assert result.values(all_safe) == [False] and result.values(count) == [6]
    assert "no item is safe" in result.values(report)[0]


def test_an_all_safe_batch_passes_whole_and_nothing_behind_the_blocked_socket_runs(bench):
    bench.forget("rejects")
    node = bench.gate(bench.policy(own_threshold=0.999), bench.latent(Z), action="stop")
    bench.dump(node[0], "whole")
    bench.dump(node[2], "rejects")
    (all_safe,) = bench.see(node, 3)
    result = bench.host.run(bench.graph).require_ok()
    assert result.values(all_safe) == [True] and not bench.exists("rejects")
    numpy.testing.assert_array_equal(bench.read("whole")["samples"], Z.numpy())


def test_replace_puts_grey_where_the_blocked_were(bench, clip):
    threshold = middle(clip)
    node = bench.gate(bench.policy(own_threshold=threshold), bench.latent(Z), action="replace")
    bench.dump(node[0], "replaced")
    bench.host.run(bench.graph).require_ok()
    wanted = Z.clone()
    grey = neutral_latents("sdxl", (1, 4, 8, 8))[0]
    for index, p in enumerate(scores(clip)):
        if not p < threshold:
            wanted[index] = grey
    numpy.testing.assert_array_equal(bench.read("replaced")["samples"], wanted.numpy())


@pytest.mark.parametrize("wired", ["neither", "both", "first"])
def test_a_second_gate_passes_the_grey_of_the_first_where_it_can_know_it(bench, clip, wired):
    """This VAE's grey is another than the known one, and as small as latents scaled for sampling."""
    vae = bench.graph.add("LatentCLIP_MiniWorld")[2]
    first, second = ({"vae": vae} if which else {} for which in (wired != "neither", wired == "both"))
    policy = bench.policy(own_threshold=middle(clip))
    replaced = bench.gate(policy, bench.latent(Z), action="replace", **first)
    again = bench.gate(policy, replaced[0], **second)
    bench.dump(replaced[0], "replaced")
    counts = bench.see(again, 4)
    (report,) = bench.see(again, 5)
    result = bench.host.run(bench.graph).require_ok()
    grey = (bench.read("replaced")["samples"] != Z.numpy()).any((1, 2, 3))
    assert 0 < grey.sum() < len(Z)
    assert result.values(counts[0])[0] == (grey.sum() if wired == "first" else 0)
    says = "too small" if wired == "first" else "plain grey"
    assert [says in line for line in result.values(report)[0].splitlines()[1:7]] == grey.tolist()


def test_stop_is_an_error_that_names_item_concept_score_and_threshold(bench, clip):
    threshold = middle(clip)
    bench.dump(
        bench.gate(bench.policy(own_threshold=threshold), bench.latent(Z), action="stop")[1], "stopped"
    )
    error = bench.host.run(bench.graph).error
    first = next(i for i, p in enumerate(scores(clip)) if p >= threshold)
    assert f"item {first}: redness" in error and f"{threshold:.4g}"[:-1] in error and "3 of 6" in error


def test_the_audit_report_is_json(bench, clip):
    node = bench.gate(bench.policy(own_threshold=middle(clip)), bench.latent(Z), report_as="json")
    (report,) = bench.see(node, 5)
    content = json.loads(bench.host.run(bench.graph).require_ok().values(report)[0])
    here = policy_here(middle(clip))
    assert content["hash"] == lclip.SafetyJudge(here, clip).digest
    assert [v["safe"] for v in content["verdicts"]] == [v.safe for v in here.judge(clip, Z)]


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (torch.randn(1, 16, 8, 8), "16 channels"),
        (torch.randn(1, 4, 3, 8, 8), "video"),
        (torch.randn(0, 4, 8, 8), "empty"),
        (torch.randn(1, 4, 1, 8), "patch"),
    ],
)
def test_what_cannot_be_read_is_an_error(bench, samples, says):
    bench.see(bench.gate(bench.policy(), bench.latent(samples, "unreadable")), 3)
    assert says in bench.host.run(bench.graph).error


@pytest.mark.parametrize(
    ("widgets", "says"),
    [
        ({"own_concepts": ""}, "no concept"),
        ({"own_concepts": "gore: blood"}, "line 1"),
        ({"preset": "i2p", "categories": "spiders"}, "no concept 'spiders'"),
        ({"policy_json": "{"}, "no valid JSON"),
        ({"policy_json": "a {report} without a policy"}, "no valid JSON"),
        ({"policy_json": policy_here(0.2).to_json() + policy_here(0.3).to_json()}, "2 different policies"),
        ({"preset": "mini", "own_concepts": ""}, "mini world's latents"),
        ({"preset": "i2p"}, "does not know the words hate, symbol"),
        ({"own_concepts": "teeth: a red fang // a red square"}, "does not know the word fang"),
        ({"own_concepts": "long: a red square " + 8 * "on blue " + "// a red circle"}, "is cut"),
        ({"own_concepts": "same: a red square // A Red  SQUARE"}, "the same tokens"),
        ({"allow": "a marble statue"}, "does not know the words marble, statue"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_is_an_error_at_its_node(bench, widgets, says):
    more = {} if "policy_json" not in widgets else {"own_concepts": ""}
    bench.graph.add("Probe_Values", value=bench.policy(**{**widgets, **more}))
    assert says in bench.host.run(bench.graph).error


@pytest.mark.parametrize(
    ("categories", "signs"), [("violence, sexual", ":/|"), ("violence，sexual", "：／｜")]
)  # the latter as Chinese keyboards have them
def test_presets_and_strictness_reach_the_gate(bench, categories, signs):
    file = bench.host.models / "reader.safetensors"
    if not file.exists():
        lclip.save_checkpoint(make_reader(), file)
    bench = Bench(bench.host, bench.graph, file.name)
    own = CONCEPT.translate(str.maketrans(":/|", signs))
    asked = {"categories": categories, "own_concepts": own, "allow": "a blue circle"}
    policy = bench.policy(preset="i2p", strictness="high", **asked)
    (report,) = bench.see(bench.gate(policy, bench.latent(Z), report_as="json"), 5)
    content = json.loads(bench.host.run(bench.graph).require_ok().values(report)[0])
    assert set(content["verdicts"][0]["probabilities"]) == {"violence", "sexual", "redness"}
    assert content["verdicts"][0]["threshold"] == pytest.approx(0.1192, abs=1e-3)
    assert content["calibrated"] is False and "not calibrated" in content["notes"][-1]


def test_what_is_put_on_top_of_a_calibrated_preset_voids_its_calibration(bench):
    """All in one graph: the preset mini as it is, and with more; what the gate's report says of each."""
    bench.clip = bench.graph.add("LatentCLIP_MiniWorld")[3]
    plain = {"preset": "mini", "own_concepts": ""}
    changes = {
        "as it is": {},
        "own concept": {"own_concepts": "red: a red circle // a blue circle"},
        "allow-list": {"allow": "a blue ring"},
        "augmentations": {"augmentations": "whole and mirror"},
        "strictness": {"strictness": "high"},
    }
    shown = {}
    for name, change in changes.items():
        gate = bench.gate(bench.policy(**{**plain, **change}), bench.latent(Z), report_as="json")
        (shown[name],) = bench.see(gate, 5)
    result = bench.host.run(bench.graph).require_ok()
    reports = {name: json.loads(result.values(report)[0]) for name, report in shown.items()}
    calibrated = {name: report["calibrated"] for name, report in reports.items()}
    assert calibrated == {name: name in ("as it is", "strictness") for name in changes}
    for name, report in reports.items():
        assert any("not calibrated" in note for note in report["notes"]) is not report["calibrated"]
        assert any("hold for medium" in note for note in report["notes"]) is (name == "strictness")


def test_a_calibrated_policy_is_refused_where_other_sizes_are_read_otherwise(bench, clip):
    z = pictures(100, seed=3)
    order = torch.tensor(scores(clip, z)).argsort()
    pasted = calibrate(policy_here(), clip, z[order[:60]], z[order[40:]], 0.1).policy.to_json()
    for rule, refused in ((clip.size_rule, False), ("interpolate", True)):
        other = Bench(bench.host, type(bench.graph)(), "gate.safetensors")
        other.clip = other.graph.add(
            "LatentCLIP_Load", file="gate.safetensors", dtype="float32", size_rule=rule
        )[0]
        gate = other.gate(other.policy(policy_json=pasted, own_concepts=""), other.latent(z[:4], "four"))
        other.see(gate, 5)
        found = other.host.run(other.graph)
        if refused:
            assert "calibrated under the size rule 'fit'" in found.error and "'interpolate'" in found.error
        else:
            found.require_ok()


def test_calibration_equals_the_library_and_its_json_can_be_pasted(bench, clip):
    z = pictures(100, seed=3)
    order = torch.tensor(scores(clip, z)).argsort()
    safe, unsafe = z[order[:60]], z[order[40:]]
    node = bench.graph.add(
        "LatentCLIP_CalibrateSafety", policy=bench.policy(), safe=bench.latent(safe, "good"),
        unsafe=bench.latent(unsafe, "bad"), target=0.1,
    )  # fmt: skip
    (report,) = bench.see(node, 1)
    bench.graph.add("Probe_DumpTensor", tensor=node[2], name="roc")
    gate = bench.gate(node[0], bench.latent(z, "all"), report_as="json")
    (judged,) = bench.see(gate, 5)
    result = bench.host.run(bench.graph).require_ok()
    wanted = calibrate(policy_here(), clip, safe, unsafe, 0.1)
    text, _, pasted = result.values(report)[0].partition("\n\n")
    assert lclip.SafetyPolicy.from_json(pasted).thresholds == pytest.approx(
        wanted.policy.thresholds, rel=1e-4
    )
    assert wanted.text().splitlines()[1] == text.splitlines()[1]
    assert json.loads(result.values(judged)[0])["calibrated"] is True
    chart = numpy.load(bench.host.output / "roc.npy")
    assert chart.ndim == 4 and chart.shape[-1] == 3 and chart.std() > 0.01
    again = Bench(bench.host, type(bench.graph)(), "gate.safetensors")
    policy = again.policy(policy_json=f"The report:\n{result.values(report)[0]}\n", own_concepts="")
    (report,) = again.see(again.gate(policy, again.latent(z, "all"), report_as="json"), 5)
    second = again.host.run(again.graph).require_ok()
    assert (
        json.loads(second.values(report)[0])["verdicts"] == json.loads(result.values(judged)[0])["verdicts"]
    )


def test_the_reward_equals_the_library(bench, clip):
    policy = bench.policy(own_threshold=0.4)
    reward = bench.graph.add("LatentCLIP_SafetyReward", policy=policy, weight=2.0)
    text = bench.graph.add("LatentCLIP_TextReward", latent_clip=bench.clip, text="a blue square", weight=1.0)
    both = bench.graph.add("LatentCLIP_SafetyReward", policy=policy, weight=2.0, add_to=text[0])
    alone, summed = (
        bench.see(bench.graph.add("LatentCLIP_Select", latent=bench.latent(Z), reward=r[0], k=1), 2)[0]
        for r in (reward, both)
    )
    result = bench.host.run(bench.graph).require_ok()
    wanted = lclip.SafetyReward(policy_here(0.4), clip, 2.0)(Z).detach()
    torch.testing.assert_close(torch.tensor(result.values(alone)), wanted, atol=1e-5, rtol=0)
    wanted = wanted + lclip.TextReward(clip, "a blue square")(Z).detach()
    torch.testing.assert_close(torch.tensor(result.values(summed)), wanted, atol=1e-5, rtol=0)
