"""What a Latent-CLIP reads of texts, it reads once: from run to run, whichever node asks."""

from __future__ import annotations

from safety_bench import GATE, POLICY
from scoring_bench import read, smooth, write_latents
from test_slider_node import SLIDER, STAGE

CONCEPTS = "a red star\na blue ring"


def asked(host, graph, kind, turn):
    """One node of a kind, with something that makes the host run it anew. -> a value to wait for"""
    world = graph.add("LatentCLIP_MiniWorld")
    clip = graph.add("Probe_CountTexts", latent_clip=world[3])[0]
    latents = read(graph, f"texts_{kind}")
    weight = 1.0 + turn / 10
    if kind == "classify":
        node = graph.add(
            "LatentCLIP_Classify", latent_clip=clip, latent=latents, labels="star\nring",
            templates="a {}\na red {}\na blue {}",
        )[1]  # fmt: skip
    elif kind == "shares":
        node = graph.add(
            "LatentCLIP_Shares", latent_clip=clip, latent=latents, concepts=CONCEPTS, margin=0.0
        )[1]
    elif kind == "balance":
        node = graph.add(
            "LatentCLIP_Balance", latent_clip=clip, latent=latents, concepts="a red star | a blue ring",
            target="", k=2, weight=weight, margin=0.0,
        )[3]  # fmt: skip
    elif kind == "slider":
        prompt = graph.add("CLIPTextEncode", clip=world[1], text="a red star")[0]
        node = graph.add(
            "LatentCLIP_Slider", model=world[0], positive=prompt, negative=prompt, latent_clip=clip,
            latent_image=graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0],
            **{**STAGE, **SLIDER, "seed": turn},
        )[0]  # fmt: skip
    else:
        concept = "skull: a skull // a ring | a star"
        policy = graph.add(
            "LatentCLIP_SafetyPolicy", latent_clip=clip,
            **{**POLICY, "own_concepts": concept, "custom_shift": turn / 10},
        )[0]  # fmt: skip
        node = {
            "gate": lambda: graph.add("LatentCLIP_SafetyGate", policy=policy, latent=latents, **GATE)[5],
            "reward": lambda: graph.add("LatentCLIP_SafetyReward", policy=policy, weight=weight)[0],
            "guard": lambda: graph.add(
                "LatentCLIP_SafetyGuard", model=world[0], policy=policy, check_from=0.0, check_to=1.0,
                on_unsafe="stop", strength=weight / 10,
            )[0],
        }[kind]()  # fmt: skip
    return clip, node


KINDS = ("gate", "guard", "reward", "classify", "shares", "slider", "balance")


def test_no_text_is_encoded_in_a_second_run(host, new_graph):
    counts = {}
    for kind in KINDS:
        for turn in (1, 2, 3):
            write_latents(host, f"texts_{kind}", smooth((4, 4, 8, 8), seed=turn))
            graph = new_graph()
            clip, node = asked(host, graph, kind, turn)
            seen = graph.add("Probe_Texts", latent_clip=clip, after=node)
            shown = graph.add("Probe_Values", value=seen[0])
            counts.setdefault(kind, []).append(host.run(graph).require_ok().values(shown)[0])
    assert sum(first for first, *_ in counts.values()) > 0
    for kind, (first, *later) in counts.items():
        assert later == [first, first], (kind, counts)
