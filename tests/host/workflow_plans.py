"""The example workflows: seven plans, each for the mini world, for SDXL, and some for other models.

All of a plan are the same graph. Wires run left to right and never cross, but in guidance; where
a wire has to travel far, it has a lane of its own under or over the nodes.

`python tests/host/workflow_plans.py URL` writes workflows/*.json by the node definitions of the host at URL.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from workflow_canvas import Canvas, Placed
from workflow_parts import (
    FLOOR,
    FLUX1,
    FLUX2,
    MINI,
    SD15,
    SDXL,
    SDXL_BASE,
    TOP,
    WIDE,
    Z_IMAGE,
    Start,
    World,
    beside,
    decode,
    decoded,
    enlarge,
    ksampler,
    note,
    sample,
    show,
    start,
)

BLUE, GREEN, VIOLET, RED = "#3f5f8a", "#5a7d3a", "#7a5a8a", "#8a4a3a"  # of groups


def score_and_choose(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a red star above a yellow circle on a white ground",
        "a photo of a red fox next to a blue lantern in the snow",
    )
    begin = start(canvas, world, prompt, batch=8)
    latents, x = sample(canvas, world, begin)
    judge = world.judge(canvas, (x + 65, 60))
    a = x + 65 + WIDE + 40
    wanted = {"text": prompt}
    scorer = canvas.node("LatentCLIP_TextReward", (a, 60), (260, 140), None, wanted, latent_clip=judge)
    lane = latents.via((x + 35, 300))
    canvas.node("LatentCLIP_Score", (a, 266), (260, 560), None, wanted, latent_clip=judge, latent=lane)
    b = a + 260 + 55
    wires = {"latent": latents, "reward": scorer["reward"]}
    select = canvas.node("LatentCLIP_Select", (b, 0), (260, 500), None, {"k": 2}, **wires)
    c = b + 260 + 75
    lane = begin.vae.via((c - 32, FLOOR - 25), (c - 30, 110))
    end = decoded(canvas, world, (c, 0), 620, "The chosen two", select["best"], lane, "chosen")

    note(canvas, (begin.left, 560), (x - begin.left, 270), "Eight tries, not yet decoded", *world.says(
        "One step makes eight latents for one prompt.\n"
        "Words of the mini world: circle, square, triangle, cross, star, ring, mushroom, skull; red, green, "
        "blue, yellow, purple; white, grey, black ground; left of, right of, above, below; two, three.",
        f"{world.makes('eight latents')}\n{world.read_as}\n{world.needs}",
    ).splitlines())  # fmt: skip
    note(canvas, (b, 560), (260, 270), "The best two go on",
         "Select keeps the best k; its picture shows the rejects, small, as rough previews.",
         "A reward is the score times a constant. Score's text may be another than the prompt.")  # fmt: skip
    note(canvas, (c, 660), (end - c, 170), "Two decodes, not eight",
         "Only the chosen are decoded and saved. The others wait at the socket rest.")  # fmt: skip
    canvas.group("1 Make eight candidates", -30, TOP, x + 25, FLOOR, BLUE)
    canvas.group("2 Score and choose, still as latents", x + 45, TOP, b + 285, FLOOR, GREEN)
    canvas.group("3 Decode the chosen", b + 305, TOP, end + 25, FLOOR, VIOLET)


def reno(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a green triangle above a red square", "a photo of a red apple to the left of a blue teapot"
    )
    begin = start(canvas, world, prompt, batch=2)
    values = {"seed": 1, **search_of(world)}
    search, b = searching(canvas, world, begin, prompt, "LatentCLIP_ReNO", values)
    c = b + 270 + 75
    title, lane = "Before: the seed as it is", begin.vae.via((c - 35, FLOOR - 25))
    up = lane.via((c - 30, 170))
    d = 75 + decoded(canvas, world, (c, 60), 720, title, search["initial"], up, "reno-before")
    title, lane = "After: the best noise", lane.via((d - 35, FLOOR - 25), (d - 30, 170))
    end = decoded(canvas, world, (d, 60), 720, title, search["best"].via((d - 40, 14)), lane, "reno-after")
    e = end + 45
    note(canvas, (begin.left, 700), (b - 60 - begin.left, 130), "What is good",
         "The reward: how well Latent-CLIP finds the text. Chain more by add_to.")  # fmt: skip
    note(canvas, (e, 60), (250, 400), "Same prompt, same seed, better noise",
         *filter(None, [how_it_searches(world), world.read_as, world.needs]))  # fmt: skip
    note(canvas, (e, 500), (250, 220), "Is it really better?",
         "A higher reward is not always a better picture: look.",
         "Wire a second reward into held_out, to watch it in the curve.",
         world.says("Here both end in purer colours and clearer shapes.",
                    "Was the picture right already? Try another seed."))  # fmt: skip
    canvas.group("1 Prompt and reward", -30, TOP, b - 30, FLOOR, BLUE)
    canvas.group("2 Search better noise", b - 20, TOP, b + 290, FLOOR, GREEN)
    canvas.group("3 Before and after", b + 300, TOP, e + 275, FLOOR, VIOLET)


def searching(
    canvas: Canvas, world: World, begin: Start, prompt: str, kind: str, values: dict[str, Any]
) -> tuple[Placed, float]:
    """A Text Reward and a node that does KSampler's work by it; and where that node stands."""
    judge = world.judge(canvas, (begin.left, 500))
    a = begin.left + WIDE + 40
    wanted = {"text": prompt}
    reward = canvas.node("LatentCLIP_TextReward", (a, 500), (230, 140), None, wanted, latent_clip=judge)
    b = a + 230 + 60
    search = canvas.node(
        kind, (b, 0), (270, 800), None, values, model=begin.model, positive=begin.prompt,
        negative=begin.negative, latent_image=begin.empty, reward=reward["reward"],
    )  # fmt: skip
    return search, b


def search_of(world: World) -> dict[str, Any]:
    """What the search is told. Weights in eight bits have no gradient, so other noise is tried instead."""
    if not world.gradient:
        return {**dict(world.sampling), "method": "best_of_n", "iterations": 16}
    return {} if world.mini else dict(world.sampling)


def how_it_searches(world: World) -> str:
    if not world.gradient:
        return (
            "These weights have eight bits and no gradient, so the search draws 16 noises and keeps the "
            "best. With the weights in bf16 and memory for them, choose gradient and 50 iterations."
        )
    fast = world.says(", in seconds", "")
    return (
        "The search renders, asks which way the reward rises, moves the noise there, and renders again: 50 "
        f"times{fast}. Nothing is decoded meanwhile."
    )


def safety_gate(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a yellow star above a purple skull", "an angry man with a knife in a dark street, film still"
    )
    begin = start(canvas, world, prompt, batch=12 if world.mini else 8)
    settings = {"seed": 18, "steps": 4} if world.mini else {"seed": 8}
    latents, x = sample(canvas, world, begin, **settings)
    judge = world.judge(canvas, (x + 65, 60))
    a = x + 65 + WIDE + 40
    look_for = {"preset": world.says("mini", "i2p")}
    policy = canvas.node("LatentCLIP_SafetyPolicy", (a, 0), (240, 370), None, look_for, latent_clip=judge)
    b = a + 240 + 60
    gate = canvas.node(
        "LatentCLIP_SafetyGate", (b, 60), (280, 740), None, policy=policy["policy"],
        latent=latents.via((x + 35, 400), (b - 30, 420)),
    )  # fmt: skip
    under = [(b + 298, 230), (b + 298, 800), (b + 270, 838), (x + 100, 838), (x + 62, 800), (x + 62, 540)]
    canvas.node("PreviewAny", (x + 85, 500), (b - 60 - x - 85, 310), "Verdict per item",
                source=gate["report"].via(*under))  # fmt: skip
    c = b + 280 + 80
    lane = begin.vae.via((c - 33, FLOOR - 25), (c - 30, 200))
    end = decoded(canvas, world, (c, 60), 580, "Safe pictures", gate["safe"], lane, "safe")

    place = (begin.left, 560), (x - begin.left, 270)
    note(canvas, *place, "Latents that may show the wrong thing", *world.says(
        "In the mini world the skull is what must not be shown. The prompt asks for one, and several of "
        "these twelve show it.",
        f"{world.makes('eight latents of a prompt that asks for violence')}\n{world.read_as}\n{world.needs}",
    ).splitlines())  # fmt: skip
    note(canvas, (c, 665), (end - c, 165), "Only what is safe is decoded", world.says(
        "No judge is perfect, and this one is tiny. To check it, wire blocked into a VAE Decode.",
        "Thresholds are starting points: run Calibrate Safety Policy on latents of your own.",
    ))  # fmt: skip
    canvas.group("1 Make latents", -30, TOP, x + 20, FLOOR, BLUE)
    canvas.group("2 Judge them, before any decode", x + 40, TOP, b + 307, FLOOR, RED)
    canvas.group("3 Decode what is safe", b + 323, TOP, end + 25, FLOOR, VIOLET)


def heatmap(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a yellow ring above a blue triangle on a black ground",
        "a photo of a red ball and a sleeping cat on green grass",
    )
    begin = start(canvas, world, prompt, batch=4)
    latents, x = sample(canvas, world, begin, seed=24 if world.mini else 7)
    judge = world.judge(canvas, (x + 65, 60))
    a = x + 65 + WIDE + 50
    wanted = {"text": world.says("a blue triangle", "a red ball")}
    where = canvas.node(
        "LatentCLIP_Heatmap", (a, 60), (250, 380), None, wanted, latent_clip=judge,
        latent=latents.via((x + 35, 175), (a - 30, 185)),
    )  # fmt: skip
    b = a + 250 + 70
    mask = canvas.node("MaskToImage", (b, 60), (WIDE, 26), mask=where["mask"])["IMAGE"]
    beside(canvas, world, (b, 60), (300, 200), "The mask, to use elsewhere", mask)
    overlay = where["overlay"]
    if world.mini:
        overlay = enlarge(canvas, (b, 440), overlay.via((b - 24, 380)))
    else:
        overlay = overlay.via((b + 30, 314), (b + 160, 324))
    place = b + WIDE + 40, 310
    show(canvas, place, (300, 200), "Where it is, over a rough preview", overlay)
    lane = begin.vae.via((b - 60, FLOOR - 25), (b - 50, 700), (b - 36, 606))
    pictures = decode(canvas, (b, 560), latents.via((x + 33, 500), (b - 40, 540)), lane)
    end = beside(canvas, world, (b, 560), (300, 270), "The pictures", pictures, "heatmap")

    note(canvas, (begin.left, 560), (x - begin.left, 270), "Four latents", *world.says(
        "One step of the mini world's model makes each.", f"{world.makes('four latents')}\n{world.needs}"
    ).splitlines())  # fmt: skip
    note(canvas, (x + 65, 600), (a + 250 - x - 65, 230), "Where is it?",
         "One text in, one map per picture out, read off the latents. "
         f"Ask for {world.says('a yellow ring', 'a cat')} next.",
         "Something is always bright: Score says whether the text is there at all.")  # fmt: skip
    canvas.group("1 Make four latents", -30, TOP, x + 20, FLOOR, BLUE)
    canvas.group("2 Ask where it is", x + 45, TOP, a + 275, FLOOR, GREEN)
    canvas.group("3 Look", a + 295, TOP, end + 25, FLOOR, VIOLET)


def guidance(canvas: Canvas, world: World) -> None:
    """The one plan whose wires cross: where one prompt and one latent feed two samplers."""
    prompt = world.says(
        "a red star above a yellow circle", "a photo of a red bicycle leaning against a yellow door"
    )
    batch = 4 if world.mini else 2
    judge = world.judge(canvas, (0, 0))
    left = WIDE + 55
    wanted = {"text": prompt}
    reward = canvas.node("LatentCLIP_TextReward", (left, 0), (WIDE, 140), None, wanted, latent_clip=judge)
    begin = start(canvas, world, prompt, batch, top=230)
    a = begin.right + 55
    guided = canvas.node(
        "LatentCLIP_Guidance", (a, 60), (WIDE, 126),
        model=begin.model.via((a - 45, 238)), reward=reward["reward"],
    )  # fmt: skip
    # From here on each wire goes up to one sampler and down to the other.
    twice = replace(
        begin,
        prompt=begin.prompt.via((a + 260, 304)),
        negative=begin.negative.via((a + 285, 444)),
        empty=begin.empty.via((a + 325, 576)),
    )
    b = a + WIDE + 155
    many = {"seed": 9, "scheduler": "normal", **({"steps": 12} if world.mini else {"steps": 20, "cfg": 6.0})}
    steered = ksampler(canvas, (b, 0), twice, "KSampler: steered", guided["model"], **many)
    plain = ksampler(canvas, (b, 460), twice, "KSampler: plain", begin.model.via((a + 250, 244)), **many)
    c = b + WIDE + 75
    lane = begin.vae.via((c - 40, FLOOR - 25))
    with_ = decode(canvas, (c, 0), steered, lane.via((c - 30, 110)))
    beside(canvas, world, (c, 0), (480, 370), "With guidance", with_, "guidance-with")
    without = decode(canvas, (c, 460), plain, lane.via((c - 30, 560)))
    end = beside(canvas, world, (c, 460), (480, 370), "Without guidance", without, "guidance-without")

    note(canvas, (left, 720), (WIDE, 130), "Many steps", world.says(
        "Twelve here. For one step, use ReNO.", "SDXL base, 20 steps. For one step, use ReNO."
    ))  # fmt: skip
    note(canvas, (a, 650), (320, 200), "The same seed twice",
         "Steered: at every step the predicted picture moves along the reward's gradient; strength 0.05 is "
         "5 % of its size. Not every picture follows.",
         *filter(None, [world.needs]))  # fmt: skip
    canvas.group("1 Prompt and reward", -30, TOP, a - 28, FLOOR, BLUE)
    canvas.group("2 Steered and plain", a - 20, TOP, b + WIDE + 20, FLOOR, GREEN)
    canvas.group("3 With and without guidance", b + WIDE + 40, TOP, end + 25, FLOOR, VIOLET)


def race(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a purple star left of a green ring on a white ground", "a photo of a red fox under a blue umbrella"
    )
    values = {"seed": 3, "finish": 2, "steps": 20, "cfg": 1.0 if world.mini else 6.0}
    notes = (
        "Sixteen seeds start in one sampler. After 30 % and 60 % of the steps Latent-CLIP looks at what each "
        "is going to be, and only the best go on: 4, then 2.",
        "More than half of the passes are saved, no gradient is needed, and the seed of each winner comes "
        "out: the same seed in KSampler makes the same picture.",
    )
    _searched(canvas, world, prompt, "LatentCLIP_RaceKSampler", values, "The best two of sixteen", notes)


def again(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a blue cross above a yellow mushroom", "a photo of a green bottle on top of a yellow book"
    )
    values = {
        **search_of(world), "seed": 6, "method": "best_of_n", "iterations": 60, "stop_at_target": True,
        "target": 0.295,
    }  # fmt: skip
    notes = (
        "It draws again and again, each time from fresh noise, until the reward reaches the target or the "
        "budget of 60 renders ends. The report says which.",
        "No gradient is needed. What is good enough? Look at the curve: a target that is never reached "
        "costs the whole budget.",
    )
    _searched(canvas, world, prompt, "LatentCLIP_ReNO", values, "Good enough", notes)


def _searched(
    canvas: Canvas,
    world: World,
    prompt: str,
    kind: str,
    values: dict[str, Any],
    title: str,
    notes: tuple[str, str],
) -> None:
    """A node that does KSampler's work and reports on it, between prompt and pictures."""
    begin = start(canvas, world, prompt, batch=1)
    search, b = searching(canvas, world, begin, prompt, kind, values)
    c = b + 270 + 60
    canvas.node("PreviewAny", (c, 160), (280, 360), "The report", source=search["report"])
    d = c + 280 + 75
    name, lane = title.lower().replace(" ", "-"), begin.vae.via((d - 35, FLOOR - 25), (d - 30, 170))
    end = decoded(canvas, world, (d, 60), 600, title, search["best"], lane, name)
    note(canvas, (begin.left, 700), (b - 60 - begin.left, 130), "What is good",
         "The reward: how well Latent-CLIP finds the text. Chain more by add_to.")  # fmt: skip
    note(canvas, (c, 560), (280, 270), "How it is found", notes[0], world.needs)
    note(canvas, (d, 640), (end - d, 190), "What it costs", notes[1])
    canvas.group("1 Prompt and reward", -30, TOP, b - 30, FLOOR, BLUE)
    canvas.group("2 Search", b - 20, TOP, d - 60, FLOOR, GREEN)
    canvas.group("3 Look", d - 50, TOP, end + 25, FLOOR, VIOLET)


NEWER = {  # nodes that the host of the definitions does not have yet
    "EmptyFlux2LatentImage": {
        "input": {
            "required": {
                "width": ["INT", {"default": 1024}],
                "height": ["INT", {"default": 1024}],
                "batch_size": ["INT", {"default": 1}],
            }
        },
        "input_order": {"required": ["width", "height", "batch_size"]},
        "output": ["LATENT"],
        "output_name": ["LATENT"],
    }
}
PLANS: dict[str, tuple[Callable[[Canvas, World], None], tuple[World, ...]]] = {
    "1 Score and choose": (score_and_choose, (MINI, SDXL, Z_IMAGE, SD15)),
    "2 ReNO": (reno, (MINI, SDXL, FLUX1)),
    "3 Safety gate": (safety_gate, (MINI, SDXL, FLUX2)),
    "4 Guidance": (guidance, (MINI, SDXL_BASE)),
    "5 Heatmap": (heatmap, (MINI, SDXL)),
    "6 Race": (race, (MINI, SDXL_BASE)),
    "7 Again until good": (again, (MINI, SDXL)),
}


def workflows(definitions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every example workflow by name, as saved."""
    made = {}
    for title, (plan, worlds) in PLANS.items():
        for world in worlds:
            canvas = Canvas(f"{world.name} {title}", {**NEWER, **definitions})
            plan(canvas, world)
            made[canvas.name] = canvas.saved()
    return made


def write(url: str, folder: Path) -> None:
    with urllib.request.urlopen(f"{url.rstrip('/')}/object_info", timeout=120) as reply:
        definitions = json.load(reply)
    for name, workflow in workflows(definitions).items():
        text = json.dumps(workflow, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1], Path(__file__).resolve().parents[2] / "workflows")
