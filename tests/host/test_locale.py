"""Reports are in the language of the browser that runs the workflow."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from safety_bench import GATE, policy_on_the_mini_world
from sampling_bench import Sampling
from scoring_bench import TEXTS, read, score, smooth, write_latents

ENGLISH, CHINESE = "cosine, higher is better", "余弦，越高越好"


def tell(host, told) -> int:
    """What the server answers to a browser that says this of itself."""
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{host.port}/latent-clip/locale", body)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def report_for(host, graph, client: str, text: str) -> str:
    write_latents(host, "spoken", smooth((2, 4, 8, 8)))
    report = graph.add("Probe_Values", value=score(graph, text, read(graph, "spoken"))[3])
    (found,) = host.run(graph, client=client).require_ok().values(report)
    return found


def test_each_browser_has_its_own_language_and_others_have_english(host, new_graph):
    assert tell(host, {"client": "one", "language": "zh"}) == 204
    assert tell(host, {"client": "two", "language": "en"}) == 204
    for client, words in (("one", CHINESE), ("two", ENGLISH), ("nobody", ENGLISH), ("one", CHINESE)):
        assert words in report_for(host, new_graph(), client, f"a red circle {client}{words[:2]}")
    assert tell(host, {"client": "one", "language": "en"}) == 204
    assert ENGLISH in report_for(host, new_graph(), "one", "a red circle again")


@pytest.mark.parametrize(
    "told",
    [b"{", b"", [], "zh", {}, {"client": "x"}, {"client": 3, "language": "zh"},
     {"client": "x", "language": "../zh"}, {"client": "x", "language": ["zh"]}],
)  # fmt: skip
def test_what_is_no_language_is_refused(host, told):
    assert tell(host, told) == 400


def gate(graph, language):
    wires = {"policy": policy_on_the_mini_world(graph), "latent": read(graph, f"spoken_{language}")}
    return graph.add("LatentCLIP_SafetyGate", **wires, **GATE)[5]


def calibration(graph, language):
    policy = policy_on_the_mini_world(graph)
    examples = {side: read(graph, f"{side}_{language}") for side in ("safe", "unsafe")}
    return graph.add("LatentCLIP_CalibrateSafety", policy=policy, target=0.05, **examples)[1]


def taste(graph, language):
    clip = graph.add("LatentCLIP_MiniWorld")[3]
    sides = {"liked": read(graph, f"safe_{language}"), "disliked": read(graph, f"unsafe_{language}")}
    settings = {"weight": 1.0, "save": False, "save_as": "", "regularization": "auto"}
    return graph.add("LatentCLIP_TrainTaste", latent_clip=clip, **sides, **settings)[2]


def balance(graph, language):
    clip = graph.add("LatentCLIP_MiniWorld")[3]
    latent = read(graph, f"spoken_{language}")
    wires = {"latent_clip": clip, "latent": latent, "concepts": "\n".join(TEXTS)}
    return graph.add("LatentCLIP_Balance", margin=0.0, **wires)[3]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (gate, ["安全：2 项中拦截", "第   0 项", "阈值", "说明：阈值尚未针对此模型校准"]),
        (calibration, ["的校准：12 个安全与 12 个不安全潜变量", "所有概念合计", "skull：阈值"]),
        (taste, ["由 12 个喜欢的与 12 个不喜欢的潜变量学得", "逐一留出时", "模型："]),
        (balance, ["2 项中选出", "a red circle：所见"]),
    ],
)
def test_what_the_library_words_is_in_the_readers_language_too(host, new_graph, node, words):
    for client, language in (("one", "zh"), ("two", "en")):
        for number, name in enumerate(("spoken", "safe", "unsafe")):  # of its own, or the cache would answer
            latents = smooth((2 if name == "spoken" else 12, 4, 8, 8), number)
            write_latents(host, f"{name}_{language}", latents)
        assert tell(host, {"client": client, "language": language}) == 204
        graph = new_graph()
        report = graph.add("Probe_Values", value=node(graph, language))
        (text,) = host.run(graph, client=client).require_ok().values(report)
        assert [word in text for word in words] == [language == "zh"] * len(words), text


def test_a_search_ends_in_the_readers_language(host, new_graph):
    assert tell(host, {"client": "one", "language": "zh"}) == 204
    bench = Sampling(host, new_graph())
    reward = bench.graph.add("LatentCLIP_TextReward", latent_clip=bench.clip, text=TEXTS[0], weight=1.0)[0]
    empty = bench.graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]
    node = bench.reno(bench.model, reward, empty, seed=11, iterations=2)
    report = bench.graph.add("Probe_Values", value=node[5])
    (text,) = host.run(bench.graph, client="one").require_ok().values(report)
    assert text.startswith("第 0 项：2 次渲染的预算用完")
