"""The example workflows: each plan for the mini world, most for SDXL, and some for other models.

All of a plan are the same graph. Wires run left to right, and cross only where the order of sockets leaves no
other way; where a wire has to travel far, it has a lane of its own under or over the nodes.

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

from workflow_apps import apps
from workflow_canvas import Canvas, Output, Placed
from workflow_explore import explore
from workflow_more import another_models_latents, custom_sampling, guarded, own_taste, turned
from workflow_parts import (
    APART,
    CEILING,
    FLOOR,
    FLUX1,
    FLUX2,
    LANE,
    MINI,
    SD15,
    SDXL,
    SDXL_BASE,
    TOP,
    UNDER_PREVIEW,
    WIDE,
    Z_IMAGE,
    Start,
    World,
    below,
    beside,
    corner,
    decode,
    decoded,
    enlarge,
    ksampler,
    nested,
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
    latents, x = sample(canvas, world, begin, **({"seed": 29} if world.mini else {}))
    a = x + 80
    ceiling = begin.latent_clip.via((a - 62, CEILING))
    y, under = begin.low + 30, max(begin.low + 30, begin.top + 530)  # under the sampler's live preview
    lane = begin.text.via((begin.left - 12, y - 15), (begin.left + 20, y), (begin.right + 16, y))
    lane = lane.via((begin.right + 36, under), (a - 60, under))
    high = lane.via((a - 30, min(under, 590)))
    wires = {"latent_clip": ceiling, "latent": latents, "text": high.via((a - 30, 200))}
    score = canvas.node("LatentCLIP_Score", (a, 0), (260, 580), **wires)
    down = ceiling.via((a - 46, 30), (a - 46, 600))
    words = high.via((a - 30, 600), (a - 28, 680)) if under < 590 else lane.via((a - 28, 720))
    scorer = canvas.node("LatentCLIP_TextReward", (a, 650), (260, 174), latent_clip=down, text=words)
    b = a + 260 + 60
    wires = {"latent": score["latent"], "reward": scorer["reward"].via((b - 26, 620), (b - 26, 90))}
    select = canvas.node("LatentCLIP_Select", (b, 0), (260, 680), None, {"k": 2}, **wires)
    c = b + 260 + 65
    lane = begin.vae.via((c - 32, LANE), (c - 30, 110))
    end = decoded(canvas, world, (c, 0), 620, "The chosen two", select["best"], lane, "chosen")

    low, words = (
        begin.low + 95,
        "Words of the mini world: circle, square, triangle, cross, star, ring, mushroom, ",
    )
    words += (
        "skull; red, green, blue, yellow, purple; white, grey, black ground; left of, right of, above, below."
    )
    if len(world.files) < 2:
        corner(
            canvas, begin, "One prompt", "Typed once: what it is made into, Score and Text Reward read it."
        )
    note(canvas, (begin.left, low), (WIDE, FLOOR - 60 - low), "Eight tries, undecoded",
         world.makes("eight latents"), world.says(words, world.read_as))  # fmt: skip
    note(
        canvas, (b, 680 + APART), (260, 110), "The best two go on", "A reward is the score times a constant."
    )
    note(canvas, (c, 620 + APART), (end - c, 180), "Two decodes, not eight",
         "Only the chosen are decoded and saved. The others wait at the socket rest.")  # fmt: skip
    canvas.group("1 Make eight candidates", -40, TOP, x + 12, FLOOR, BLUE)
    canvas.group("2 Score and choose, still as latents", x + 18, TOP, b + 275, FLOOR, GREEN)
    canvas.group("3 Decode", b + 285, TOP, end + 25, FLOOR, VIOLET)


def reno(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a purple ring above a blue circle", "a photo of a red apple to the left of a blue teapot"
    )
    begin = start(canvas, world, prompt, batch=2, above=False)
    values = {"seed": 9 if world.mini else 1, **search_of(world)}
    search, b = searching(canvas, world, begin, "LatentCLIP_ReNO", values)
    c = b + 290 + 75
    title, lane = "Before: the seed as it is", begin.vae.via((c - 35, LANE))
    up = lane.via((c - 30, 170))
    d = 75 + decoded(canvas, world, (c, 60), 640, title, search["initial"], up, "reno-before")
    title, lane = "After: the best noise", lane.via((d - 35, LANE), (d - 30, 170))
    end = decoded(canvas, world, (d, 60), 640, title, search["best"].via((d - 40, 14)), lane, "reno-after")
    note(
        canvas,
        (d, 756),
        (end - d, 180),
        "Is it really better?",
        "A higher reward is not always a better picture: look. Wire a second reward into held_out to watch.",
    )
    first_notes(canvas, begin, "Same prompt, better noise", how_it_searches(world), world.read_as)
    if not world.mini:
        note(canvas, (c, 640 + APART), (WIDE, 180), "What you need", world.needs)
    canvas.group("1 Prompt and reward", -40, TOP, b - 30, FLOOR, BLUE)
    canvas.group("2 Search", b - 20, TOP, b + 305, FLOOR, GREEN)
    canvas.group("3 Before and after", b + 312, TOP, end + 25, FLOOR, VIOLET)


def first_notes(
    canvas: Canvas,
    begin: Start,
    title: str,
    *lines: str,
    good: str = "How well Latent-CLIP finds the prompt.",
) -> None:
    """Below the prompt how it is done, and below the reward what is good."""
    corner(canvas, begin, title, *lines)
    y = begin.low + 2 * APART + 174
    note(canvas, (begin.left, y), (WIDE, FLOOR - 60 - y), "The reward", good, "Chain more by add_to.")


TEXT_REWARD = "LatentCLIP_TextReward"


def rewarding(canvas: Canvas, world: World, begin: Start, kind: str = TEXT_REWARD) -> tuple[Output, float]:
    """A reward below what the prompt is made into, of the prompt or of none; where the next column stands."""
    y, judge = begin.low + APART, begin.latent_clip
    if world.mini:
        judge = judge.via((begin.left - 30, 110), (begin.left - 24, y - 20))
    wires = {"latent_clip": judge}
    if kind == TEXT_REWARD:
        wires["text"] = begin.text.via((begin.left - 40, y - 40), (begin.left - 40, y + 30))
    reward = canvas.node(kind, (begin.left, y), (WIDE, 174), **wires)
    return reward["reward"], begin.right + 60


def searching(
    canvas: Canvas, world: World, begin: Start, kind: str, values: dict[str, Any]
) -> tuple[Placed, float]:
    """A node that does KSampler's work by the reward of the prompt; and where that node stands."""
    reward, b = rewarding(canvas, world, begin)
    near = nested(begin)
    search = canvas.node(
        kind, (b, 0), (290, 860), None, values, model=begin.model, positive=begin.prompt,
        negative=near.negative, latent_image=near.empty, reward=reward.via((b - 14, 170)),
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
    settings = {"seed": 12, "steps": 4} if world.mini else {"seed": 8}
    latents, x = sample(canvas, world, begin, **settings)
    a = x + 80
    look_for = {"preset": world.says("mini", "i2p")}
    judge = begin.latent_clip.via((a - 40, CEILING))
    policy = canvas.node("LatentCLIP_SafetyPolicy", (a, 0), (240, 420), None, look_for, latent_clip=judge)
    b = a + 240 + 60
    gate = canvas.node(
        "LatentCLIP_SafetyGate", (b, 0), (300, 830), None, policy=policy["policy"],
        latent=latents.via((x + 30, 450), (b - 60, 455), (b - 26, 400)),
    )  # fmt: skip
    c = b + 300 + 80
    under = (b + 318, 160), (b + 318, 845), (b + 290, 868), (a, 868), (a - 26, 840), (a - 26, 580)
    report = gate["report"].via(*under)
    canvas.node("PreviewAny", (a, 520), (240, 320), "Verdict per item", source=report)
    lane = begin.vae.via((c - 34, LANE), (c - 30, 100))
    end = decoded(canvas, world, (c, 0), 640, "Safe pictures", gate["safe"], lane, "safe")

    corner(canvas, begin, "What may be wrong here", *world.says(
        "In the mini world the skull is what must not be shown. The prompt asks for one, and several of "
        "these twelve show it.",
        f"{world.makes('eight latents of a prompt that asks for violence')}\n{world.read_as}",
    ).splitlines())  # fmt: skip
    note(canvas, (c, 640 + APART), (end - c, FLOOR - 772), "Only what is safe is decoded", world.says(
        "No judge is perfect, and this one is tiny. To check it, wire blocked into a VAE Decode.",
        "Thresholds are starting points: run Calibrate Safety Policy on latents of your own.",
    ))  # fmt: skip
    canvas.group("1 Make latents", -40, TOP, x + 15, FLOOR, BLUE)
    canvas.group("2 Judge them, before any decode", x + 22, TOP, b + 330, FLOOR, RED)
    canvas.group("3 Decode", b + 336, TOP, end + 25, FLOOR, VIOLET)


def heatmap(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a yellow circle above a blue triangle on a white ground",
        "a photo of a red ball and a sleeping cat on green grass",
    )
    begin = start(canvas, world, prompt, batch=4)
    latents, x = sample(canvas, world, begin, seed=2 if world.mini else 7)
    a = x + 80
    wanted = {"text": world.says("a blue triangle", "a red ball")}
    judge = begin.latent_clip.via((a - 40, CEILING))
    where = canvas.node(
        "LatentCLIP_Heatmap", (a, 0), (260, 420), None, wanted, latent_clip=judge, latent=latents
    )
    b = a + 260 + 70
    mask = canvas.node("MaskToImage", (b, 0), (WIDE, 34), mask=where["mask"])["IMAGE"]
    beside(canvas, world, (b, 0), (300, 250), "The mask, to use elsewhere", mask)
    overlay = where["overlay"]
    if world.mini:
        overlay = enlarge(canvas, (b, 390), overlay.via((b - 24, 290)))
    else:
        overlay = overlay.via((b + 30, 350), (b + 160, 368))
    place = b + WIDE + 40, 358
    show(canvas, place, (300, 250), "Where it is, over a rough preview", overlay)
    lane = begin.vae.via((b - 60, LANE), (b - 50, 830), (b - 36, 756))
    pictures = decode(canvas, (b, 716), latents.via((x + 33, 505), (b - 60, 505), (b - 40, 696)), lane)
    end = beside(canvas, world, (b, 716), (300, 280), "The pictures", pictures, "heatmap")

    corner(canvas, begin, "Four latents", *world.says(
        "One step of the mini world's model makes each.", world.makes("four latents")
    ).splitlines())  # fmt: skip
    note(canvas, (a, 560), (260, FLOOR - 620), "Where is it?",
         "One text in, one map per picture out, read off the latents. "
         f"Ask for {world.says('a yellow ring', 'a cat')} next.",
         "Something is always bright: Score says whether the text is there at all.")  # fmt: skip
    canvas.group("1 Make four latents", -40, TOP, x + 15, FLOOR, BLUE)
    canvas.group("2 Ask where it is", x + 45, TOP, a + 275, FLOOR, GREEN)
    canvas.group("3 Look", a + 295, TOP, end + 25, FLOOR, VIOLET)


def guidance(canvas: Canvas, world: World) -> None:
    """The one plan where many wires cross: one prompt and one latent feed two samplers."""
    prompt = world.says(
        "a red star above a yellow circle", "a photo of a red bicycle leaning against a yellow door"
    )
    _steered(canvas, world, prompt, TEXT_REWARD, 0.05)


def varied(canvas: Canvas, world: World) -> None:
    """Guidance by what makes the items of a batch differ."""
    _steered(canvas, world, "a ring above a square", "LatentCLIP_VarietyReward", 0.15)


def _steered(canvas: Canvas, world: World, prompt: str, kind: str, strength: float) -> None:
    """Plain above; what steers stands under it, right beside the reward, and the steered one comes last."""
    begin = start(canvas, world, prompt, batch=4 if world.mini else 2, above=False)
    reward, right, floor = rewarding(canvas, world, begin, kind)[0], begin.right, UNDER_PREVIEW
    a = right + 115
    b = a + WIDE + 90
    model = begin.model.via((right + 12, 14))
    words, empty = begin.prompt.via((right + 62, 76)), begin.empty.via((right + 36, begin.low - 100))
    avoid = begin.negative.via((right + 49, begin.low - 276)) if world.negative else words
    many = {
        "scheduler": "normal",
        **({"steps": 12, "seed": 8} if world.mini else {"steps": 20, "cfg": 6.0, "seed": 9}),
    }
    above = replace(begin, prompt=words, negative=avoid, empty=empty.via((right + 90, 200)))
    if world.negative:
        above = replace(above, negative=avoid.via((right + 78, 120)))
    plain = ksampler(canvas, (a, 0), above, "KSampler: plain", model, **many)
    guided = canvas.node(
        "LatentCLIP_Guidance", (a, floor + 100), (WIDE, 134), None, {"strength": strength},
        model=model.via((right + 26, 40), (right + 26, 300), (right + 26, floor + 40),
                        (right + 40, floor + 80)),
        reward=reward.via((right + 8, begin.low + 140), (right + 8, floor + 40), (right + 24, floor + 110)),
    )["model"]  # fmt: skip

    def lane(output: Output, x: float, y: float, up: float) -> Output:
        return output.via((right + x, y - 60), (right + 115, y), (up - 40, y), (up, y - 60), (up, 220))

    words = lane(words, 62, floor + 8, b - 42)
    below = replace(
        begin,
        prompt=words,
        negative=lane(avoid, 49, floor + 20, b - 32) if world.negative else words,
        empty=lane(empty, 36, floor + 32, b - 20),
    )
    guided = guided.via((a + WIDE + 24, floor + 70), (b - 60, floor - 60), (b - 58, 160))
    steered = ksampler(canvas, (b, 90), below, "KSampler: steered", guided, **many)
    c = b + WIDE + 65
    vae = begin.vae.via((c - 40, LANE))
    without = decode(canvas, (c, 0), plain, vae.via((c - 30, 110)))
    beside(canvas, world, (c, 0), (360, 400), "Without guidance", without, "guidance-without")
    steered = steered.via((c - 50, 160), (c - 48, 500))
    with_ = decode(canvas, (c, 540), steered, vae.via((c - 30, 650)))
    end = beside(canvas, world, (c, 540), (360, 400), "With guidance", with_, "guidance-with")

    how = "The same seed twice. Steered: each step moves the predicted picture along the reward's gradient. "
    how += f"Strength {strength} is {strength:.0%} of its size. Not every picture follows."
    good = {} if kind == TEXT_REWARD else {"good": "To be far from the others of the batch."}
    first_notes(canvas, begin, "Steered and plain", how, **good)
    note(canvas, (b, 700), (WIDE, FLOOR - 760), "Many steps", world.says(
        "Twelve here. For one step, use ReNO.", "SDXL base, 20 steps. For one step, use ReNO."
    ), world.needs)  # fmt: skip
    canvas.group("1 Prompt and reward", -40, TOP, right + 8, FLOOR, BLUE)
    canvas.group("2 Plain and steered", right + 11, TOP, b + WIDE + 15, FLOOR, GREEN)
    canvas.group("3 Without and with guidance", b + WIDE + 22, TOP, end + 25, FLOOR, VIOLET)


def race(canvas: Canvas, world: World) -> None:
    prompt = world.says("a purple ring above a blue circle", "a photo of a red fox under a blue umbrella")
    values = {"seed": 6 if world.mini else 3, "finish": 2, "steps": 20, "cfg": 1.0 if world.mini else 6.0}
    notes = (
        "Sixteen seeds start in one sampler. After 30 % and 60 % of the steps Latent-CLIP looks at what each "
        "is going to be, and only the best go on: 4, then 2.",
        "More than half of the passes are saved, no gradient is needed, and a winner's seed gives the same "
        "picture in KSampler. Method draft chooses better still.",
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


def slider(canvas: Canvas, world: World) -> None:
    prompt = "a green star on a grey ground"
    begin = start(canvas, world, prompt, batch=1, above=False)
    judge = begin.latent_clip.via((begin.left - 30, 110), (begin.left - 24, begin.low + 20))
    judge = judge.via((begin.right + 40, begin.low + 30), (begin.right + 75, 300))
    b = begin.right + 110
    values = {
        "seed": 2, "less": "a small green star on a grey ground",
        "more": "a large green star on a grey ground", "low": -0.5, "high": 0.5, "anchor": 0.3,
    }  # fmt: skip
    series = canvas.node(
        "LatentCLIP_Slider", (b, 0), (320, 960), None, values, model=begin.model, positive=begin.prompt,
        negative=begin.negative, latent_image=begin.empty.via((begin.right + 55, 280)), latent_clip=judge,
    )  # fmt: skip
    c = b + 320 + 60
    canvas.node("PreviewAny", (c, 160), (300, 370), "The report", source=series["report"])
    d = c + 300 + 75
    lane = begin.vae.via((d - 35, LANE), (d - 30, 170))
    end = decoded(canvas, world, (d, 60), 600, "From small to large", series["series"], lane, "slider")
    note(canvas, (0, 400), (WIDE, 230), "What is moved",
         "The prompt with one word exchanged, for either end. The prompt leaves that word out.")  # fmt: skip
    note(canvas, (c, 602), (300, 330), "How it is moved",
         "Each picture begins with its neighbour's noise and goes on to its place as Latent-CLIP measures; "
         "an anchor holds the rest. Above 4 steps the picture is guided instead.", world.needs)  # fmt: skip
    note(canvas, (d, 746), (end - d, 180), "Seven of one seed",
         "Without training: a slider is two texts, or two groups of latents.")  # fmt: skip
    canvas.group("1 Prompt and both ends", -30, TOP, b - 30, FLOOR, BLUE)
    canvas.group("2 Slide", b - 20, TOP, d - 60, FLOOR, GREEN)
    canvas.group("3 Look", d - 50, TOP, end + 25, FLOOR, VIOLET)


def balance(canvas: Canvas, world: World) -> None:
    """Two samplers, one after the other, share model and prompt: their wires cross, as in guidance."""
    begin = start(canvas, world, "a star on a white ground", batch=16)
    left, right, y = begin.left, begin.right, begin.low + 110
    twice = begin.prompt.via((right + 18, 100), (right + 16, y - 80), (left - 8, y - 50))
    under = replace(
        begin,
        prompt=twice,
        negative=twice,
        empty=begin.empty.via((right + 10, 250), (right + 8, y - 92), (left - 18, y - 62)),
    )
    model = begin.model.via((left - 26, 60), (left - 28, y - 20))
    settings = {**dict(world.sampling), "model": model}
    plain = ksampler(canvas, (left, y), under, None, **settings)
    colours = [f"a {colour} star" for colour in ("red", "green", "blue", "yellow", "purple")]
    a = right + 90
    ceiling = begin.latent_clip.via((a - 36, CEILING))
    told = {"concepts": "\n".join(colours)}
    up = plain.via((right + 34, y - 20), (right + 36, 90))
    chooser = canvas.node(
        "LatentCLIP_Balance", (a, 0), (250, 740), None, told, latent=up, latent_clip=ceiling
    )
    b = a + 250 + 80
    over = begin.prompt.via((right + 24, 20), (right + 26, CEILING - 14), (b - 44, CEILING - 14))
    lane = plain.via((right + 34, y + 60), (right + 38, FLOOR - 60), (b - 14, FLOOR - 60), (b - 14, 130))
    steered = canvas.node(
        "LatentCLIP_ReNO", (b, 0), (250, 840), None, {"seed": 7, "scheduler": "normal", "iterations": 15},
        model=begin.model.via((left - 14, CEILING - 28), (b - 22, CEILING - 28)), positive=over,
        negative=over, latent_image=lane, reward=chooser["reward"],
    )  # fmt: skip
    c = b + 250 + 60
    told = {"concepts": " | ".join(colours)}
    shares = canvas.node(
        "LatentCLIP_Shares", (c, 0), (250, 660), None, told,
        latent_clip=ceiling.via((c - 30, CEILING)), latent=steered["best"],
    )  # fmt: skip
    d = c + 250 + 62
    lane = begin.vae.via((d - 34, LANE), (d - 30, 110))
    end = decoded(canvas, world, (d, 0), 640, "Balanced", shares["latent"], lane, "balanced")
    y = begin.free + APART
    note(canvas, (0, y), (WIDE, FLOOR - 60 - y), "The colour is left open",
         "Which colours come is up to the model. The concepts of Balance say what is told apart: it chooses "
         "as many of each, and gives the others a colour that lacks.")  # fmt: skip
    note(
        canvas, (d, 640 + APART), (WIDE, 180), "Made up", "ReNO moves each of the sixteen to its own colour."
    )
    canvas.group("1 Sixteen, the colour left open", -40, TOP, a - 46, FLOOR, BLUE)
    canvas.group("2 Balance", a - 42, TOP, b - 58, FLOOR, GREEN)
    canvas.group("3 Make up what lacks", b - 52, TOP, c - 50, FLOOR, GREEN)
    canvas.group("4 Look", c - 44, TOP, end + 25, FLOOR, VIOLET)


def named(canvas: Canvas, world: World) -> None:
    """A seed goes to the sampler and to the choice, the choice's captions to the names of the files."""
    begin = start(canvas, world, "a blue square above a red ring", batch=8, above=False)
    reward, a = rewarding(canvas, world, begin)
    low = begin.low + 2 * APART + 174
    seed = canvas.node("PrimitiveInt", (begin.left, low), (WIDE, 90), "Seed", {"value": 7})["INT"]
    near = nested(begin)
    wires = {"model": begin.model, "positive": begin.prompt, "negative": near.negative}
    wires |= {"latent_image": near.empty, "seed": seed.via((a - 14, low - 40), (a - 12, 240))}
    values = {"cfg": 1.0, "sampler_name": "euler", **dict(world.sampling)}
    latents = canvas.node("KSampler", (a, 0), (WIDE, 270), None, values, **wires)["LATENT"]
    b = a + WIDE + 85
    wires = {"latent": latents, "reward": reward.via((a + 10, 545), (a + WIDE + 20, 535), (b - 54, 70))}
    wires["seed"] = seed.via((a + 20, low + 34), (b - 40, low), (b - 18, 420))
    select = canvas.node("LatentCLIP_Select", (b, 0), (260, 680), None, {"k": 3}, **wires)
    c = b + 260 + 85
    values = {"batch_size": 1}
    single = canvas.node("RebatchLatents", (c, 0), (WIDE, 58), "One by one", values, latents=select["best"])
    lane = begin.vae.via((c - 32, LANE), (c - 30, 260))
    images = decode(canvas, (c, 130), turned(single["LATENT"], (c, 0), WIDE, 58), lane)
    images = enlarge(canvas, (c, 260), below(images, (c, 130), 54))
    wires = {"images": below(images, (c, 260), 90), "filename_prefix": select["captions"].via((c - 60, 390))}
    canvas.node("SaveImage", (c, 430), (WIDE, 330), "Named by score", **wires)
    corner(canvas, begin, "Names that tell", "Three of eight are saved, and the name of each file says its "
           "reward, its seed and its number: 0.312 seed 7 no 3.")  # fmt: skip
    note(
        canvas,
        (a, low + 130),
        (WIDE, 150),
        "A list",
        "One picture for each caption: so the best are taken apart.",
    )
    canvas.group("1 Eight of one seed", -40, TOP, b - 60, FLOOR, BLUE)
    canvas.group("2 Choose", b - 50, TOP, c - 70, FLOOR, GREEN)
    canvas.group("3 Save", c - 64, TOP, c + WIDE + 25, FLOOR, VIOLET)


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
    begin = start(canvas, world, prompt, batch=1, above=False)
    search, b = searching(canvas, world, begin, kind, values)
    c = b + 290 + 60
    canvas.node("PreviewAny", (c, 160), (280, 400), "The report", source=search["report"])
    d = c + 280 + 75
    name, lane = title.lower().replace(" ", "-"), begin.vae.via((d - 35, LANE), (d - 30, 110))
    end = decoded(canvas, world, (d, 0), 600, title, search["best"], lane, name)
    first_notes(canvas, begin, "How it is found", notes[0])
    note(canvas, (c, 560 + APART), (280, 270), "What it costs", notes[1], world.needs)
    canvas.group("1 Prompt and reward", -40, TOP, b - 30, FLOOR, BLUE)
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
    "8 Shares and balance": (balance, (MINI,)),
    "9 Slider": (slider, (MINI,)),
    "10 Explore": (explore, (MINI, SDXL)),
    "11 Own taste": (own_taste, (MINI,)),
    "12 Another model's latents": (another_models_latents, (MINI,)),
    "13 Guard": (guarded, (MINI,)),
    "14 Custom sampling": (custom_sampling, (MINI,)),
    "15 A varied batch": (varied, (MINI,)),
    "16 Names that tell": (named, (MINI,)),
}


def workflows(definitions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every example workflow by name, as saved, and the apps of some."""
    made: dict[str, dict[str, Any]] = {}
    for title, (plan, worlds) in PLANS.items():
        for world in worlds:
            canvas = Canvas(f"{world.name} {title}", {**NEWER, **definitions})
            plan(canvas, world)
            made[canvas.name] = canvas.saved()
    return {**made, **apps(made)}


def write(url: str, folder: Path) -> None:
    with urllib.request.urlopen(f"{url.rstrip('/')}/object_info", timeout=120) as reply:
        definitions = json.load(reply)
    for name, workflow in workflows(definitions).items():
        text = json.dumps(workflow, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1], Path(__file__).resolve().parents[2] / "workflows")
