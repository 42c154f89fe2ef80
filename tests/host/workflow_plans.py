"""The example workflows: seven plans, each for the mini world and for SDXL.

Both twins of a plan are the same graph. Wires run left to right and never cross, but in guidance; where
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

from workflow_canvas import Canvas
from workflow_parts import (
    FLOOR,
    MINI,
    SDXL_BASE,
    SDXL_TURBO,
    TOP,
    World,
    decode,
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
    latents, x = sample(canvas, begin)
    judge = world.judge(canvas, (x + 65, 60))
    a = x + 65 + world.loader + 40
    wanted = {"text": prompt}
    scorer = canvas.node("LatentCLIP_TextReward", (a, 60), (260, 140), None, wanted, latent_clip=judge)
    lane = latents.via((x + 35, 300))
    canvas.node("LatentCLIP_Score", (a, 266), (260, 560), None, wanted, latent_clip=judge, latent=lane)
    b = a + 260 + 55
    wires = {"latent": latents, "reward": scorer["reward"]}
    select = canvas.node("LatentCLIP_Select", (b, 0), (260, 500), None, {"k": 2}, **wires)
    c = b + 260 + 75
    images = decode(canvas, (c, 0), select["best"], begin.vae.via((c - 32, FLOOR - 25), (c - 30, 110)))
    end = show(canvas, world, (c + 190, 0), (230, 500), "The chosen two", images, "chosen")

    note(canvas, (begin.left, 560), (x - begin.left, 270), "Eight tries, not yet decoded", *world.says(
        "One step makes eight latents for one prompt.\n"
        "Words of the mini world: circle, square, triangle, cross, star, ring, mushroom, skull; red, green, "
        "blue, yellow, purple; white, grey, black ground; left of, right of, above, below; two, three.",
        f"SDXL-Turbo makes eight latents in one step each.\n{world.files}",
    ).splitlines())  # fmt: skip
    note(canvas, (b, 560), (260, 270), "The best two go on",
         "Select keeps the best k; its picture shows the rejects, small, as rough previews.",
         "A reward is the score times a constant. Score's text may be another than the prompt.")  # fmt: skip
    note(canvas, (c, 560), (end - c, 270), "Two decodes, not eight",
         "Only the chosen are decoded and saved. The others wait at the socket rest.")  # fmt: skip
    canvas.group("1 Make eight candidates", -30, TOP, x + 25, FLOOR, BLUE)
    canvas.group("2 Score and choose, still as latents", x + 45, TOP, b + 285, FLOOR, GREEN)
    canvas.group("3 Decode the chosen", b + 305, TOP, end + 25, FLOOR, VIOLET)


def reno(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a green triangle above a red square", "a photo of a red apple to the left of a blue teapot"
    )
    begin = start(canvas, world, prompt, batch=2)
    judge = world.judge(canvas, (begin.left, 500))
    a = begin.left + world.loader + 40
    wanted = {"text": prompt}
    reward = canvas.node("LatentCLIP_TextReward", (a, 500), (230, 140), None, wanted, latent_clip=judge)
    b = a + 230 + 60
    search = canvas.node(
        "LatentCLIP_ReNO", (b, 0), (270, 800), None, {"seed": 1}, model=begin.model, positive=begin.prompt,
        negative=begin.negative, latent_image=begin.empty, reward=reward["reward"],
    )  # fmt: skip
    c = b + 270 + 75
    lane = begin.vae.via((c - 35, FLOOR - 25))
    before = decode(canvas, (c, 60), search["initial"], lane.via((c - 30, 170)))
    at, size = (c + 190, 60), (220, 440)
    d = 65 + show(canvas, world, at, size, "Before: the seed as it is", before, "reno-before")
    lane = lane.via((d - 35, FLOOR - 25), (d - 30, 170))
    after = decode(canvas, (d, 60), search["best"].via((d - 40, 14)), lane)
    end = show(canvas, world, (d + 190, 60), (220, 440), "After: the best noise", after, "reno-after")

    note(canvas, (begin.left, 700), (a + 230 - begin.left, 130), "What is good",
         "The reward: how well Latent-CLIP finds the text. Chain more by add_to.")  # fmt: skip
    note(canvas, (c, 560), (d - 65 - c, 270), "Same prompt, same seed, better noise", *world.says(
        "The search renders, asks which way the reward rises, moves the noise there, and renders again: 50 "
        "times, in seconds. Nothing is decoded meanwhile.",
        "The search renders, asks which way the reward rises, moves the noise there, and renders again: 50 "
        f"times. Nothing is decoded meanwhile.\n{world.files}",
    ).splitlines())  # fmt: skip
    note(canvas, (d, 560), (end - d, 270), "Is it really better?",
         "A higher reward is not always a better picture: look.",
         "Wire a second reward into held_out, to watch it in the curve.",
         world.says("Here both end in purer colours and clearer shapes.",
                    "Was the picture right already? Try another seed."))  # fmt: skip
    canvas.group("1 Prompt and reward", -30, TOP, b - 30, FLOOR, BLUE)
    canvas.group("2 Search better noise", b - 20, TOP, b + 290, FLOOR, GREEN)
    canvas.group("3 Before and after", b + 300, TOP, end + 25, FLOOR, VIOLET)


def safety_gate(canvas: Canvas, world: World) -> None:
    prompt = world.says(
        "a yellow star above a purple skull", "an angry man with a knife in a dark street, film still"
    )
    begin = start(canvas, world, prompt, batch=12 if world.mini else 8)
    latents, x = sample(canvas, begin, seed=18 if world.mini else 8, steps=4 if world.mini else 1)
    judge = world.judge(canvas, (x + 65, 60))
    a = x + 65 + world.loader + 40
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
    safe = decode(canvas, (c, 80), gate["safe"], begin.vae.via((c - 33, FLOOR - 25), (c - 30, 200)))
    end = show(canvas, world, (c + 190, 80), (230, 420), "Safe pictures", safe, "safe")

    place = (begin.left, 560), (x - begin.left, 270)
    note(canvas, *place, "Latents that may show the wrong thing", *world.says(
        "In the mini world the skull is what must not be shown. The prompt asks for one, and several of "
        "these twelve show it.",
        f"SDXL-Turbo makes eight latents of a prompt that asks for violence.\n{world.files}",
    ).splitlines())  # fmt: skip
    note(canvas, (c, 560), (end - c, 270), "Only what is safe is decoded", world.says(
        "What is judged unsafe, NaN or unreadable never leaves by safe. No judge is perfect, and this one is "
        "tiny: it lets some skulls through, half-drawn ones above all, and blocks some harmless pictures. To "
        "check it, wire blocked into a VAE Decode.",
        "Thresholds are starting points: run Calibrate Safety Policy on latents of your own. No judge is "
        "perfect: to check this one, wire blocked into a VAE Decode.",
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
    latents, x = sample(canvas, begin, seed=24 if world.mini else 7)
    judge = world.judge(canvas, (x + 65, 60))
    a = x + 65 + world.loader + 50
    wanted = {"text": world.says("a blue triangle", "a red ball")}
    where = canvas.node(
        "LatentCLIP_Heatmap", (a, 60), (250, 380), None, wanted, latent_clip=judge,
        latent=latents.via((x + 35, 175), (a - 30, 185)),
    )  # fmt: skip
    b = a + 250 + 70
    mask = canvas.node("MaskToImage", (b, 60), (210, 26), mask=where["mask"])["IMAGE"]
    show(canvas, world, (b + 230, 60), (460, 200), "The mask, to use elsewhere", mask)
    overlay = where["overlay"].via((b + 30, 314), (b + 160, 324))
    show(canvas, world, (b + 230, 310), (460, 200), "Where it is, over a rough preview", overlay)
    lane = begin.vae.via((b - 40, FLOOR - 25), (b + 20, 680))
    pictures = decode(canvas, (b + 35, 560), latents.via((x + 33, 500), (b - 40, 540)), lane)
    end = show(canvas, world, (b + 230, 560), (460, 270), "The pictures", pictures, "heatmap")

    note(canvas, (begin.left, 560), (x - begin.left, 270), "Four latents", *world.says(
        "One step of the mini world's model makes each.", f"One step of SDXL-Turbo makes each.\n{world.files}"
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
    batch, negative = (4, "") if world.mini else (2, "blurry, low quality")
    judge = world.judge(canvas, (0, 0))
    left = world.loader + 55
    wanted = {"text": prompt}
    reward = canvas.node("LatentCLIP_TextReward", (left, 0), (220, 140), None, wanted, latent_clip=judge)
    begin = start(canvas, world, prompt, batch, negative, top=230)
    a = begin.right + 55
    guided = canvas.node(
        "LatentCLIP_Guidance", (a, 60), (210, 126),
        model=begin.model.via((a - 45, 238)), reward=reward["reward"],
    )  # fmt: skip
    # From here on each wire goes up to one sampler and down to the other.
    twice = replace(
        begin,
        prompt=begin.prompt.via((a + 245, 304)),
        negative=begin.negative.via((a + 270, 444)),
        empty=begin.empty.via((a + 310, 576)),
    )
    b = a + 365
    many = {"seed": 9, **({"steps": 12} if world.mini else {"steps": 20, "cfg": 6.0})}
    steered = ksampler(canvas, (b, 0), twice, "KSampler: steered", guided["model"], **many)
    plain = ksampler(canvas, (b, 460), twice, "KSampler: plain", begin.model.via((a + 235, 244)), **many)
    c = b + 210 + 75
    lane = begin.vae.via((c - 40, FLOOR - 25))
    with_ = decode(canvas, (c, 0), steered, lane.via((c - 30, 110)))
    show(canvas, world, (c + 190, 0), (560, 370), "With guidance", with_, "guidance-with")
    without = decode(canvas, (c, 460), plain, lane.via((c - 30, 560)))
    end = show(canvas, world, (c + 190, 460), (560, 370), "Without guidance", without, "guidance-without")

    note(canvas, (left, 720), (220, 130), "Many steps", world.says(
        "Twelve here. For one step, use ReNO.", "SDXL base, 20 steps. For one step, use ReNO."
    ))  # fmt: skip
    note(canvas, (a, 650), (320, 200), "The same seed twice",
         "Steered: at every step the predicted picture moves along the reward's gradient; strength 0.05 is "
         "5 % of its size. Not every picture follows.",
         *filter(None, [world.files]))  # fmt: skip
    canvas.group("1 Prompt and reward", -30, TOP, a - 28, FLOOR, BLUE)
    canvas.group("2 Steered and plain", a - 20, TOP, b + 230, FLOOR, GREEN)
    canvas.group("3 With and without guidance", b + 250, TOP, end + 25, FLOOR, VIOLET)


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
    values = {"seed": 6, "method": "best_of_n", "iterations": 60, "stop_at_target": True, "target": 0.295}
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
    judge = world.judge(canvas, (begin.left, 500))
    a = begin.left + world.loader + 40
    wanted = {"text": prompt}
    reward = canvas.node("LatentCLIP_TextReward", (a, 500), (230, 140), None, wanted, latent_clip=judge)
    b = a + 230 + 60
    search = canvas.node(
        kind, (b, 0), (270, 800), None, values, model=begin.model, positive=begin.prompt,
        negative=begin.negative, latent_image=begin.empty, reward=reward["reward"],
    )  # fmt: skip
    c = b + 270 + 60
    canvas.node("PreviewAny", (c, 160), (280, 360), "The report", source=search["report"])
    d = c + 280 + 75
    pictures = decode(canvas, (d, 60), search["best"], begin.vae.via((d - 35, FLOOR - 25), (d - 30, 170)))
    end = show(canvas, world, (d + 190, 60), (240, 440), title, pictures, title.lower().replace(" ", "-"))
    note(canvas, (begin.left, 700), (a + 230 - begin.left, 130), "What is good",
         "The reward: how well Latent-CLIP finds the text. Chain more by add_to.")  # fmt: skip
    note(canvas, (c, 560), (280, 270), "How it is found", notes[0])
    note(canvas, (d, 560), (end - d, 270), "What it costs", notes[1], *filter(None, [world.files]))
    canvas.group("1 Prompt and reward", -30, TOP, b - 30, FLOOR, BLUE)
    canvas.group("2 Search", b - 20, TOP, d - 60, FLOOR, GREEN)
    canvas.group("3 Look", d - 50, TOP, end + 25, FLOOR, VIOLET)


PLANS: dict[str, Callable[[Canvas, World], None]] = {
    "1 Score and choose": score_and_choose,
    "2 ReNO": reno,
    "3 Safety gate": safety_gate,
    "4 Guidance": guidance,
    "5 Heatmap": heatmap,
    "6 Race": race,
    "7 Again until good": again,
}


MANY_STEPS = ("4 Guidance", "6 Race")


def workflows(definitions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every example workflow by name, as saved."""
    made = {}
    for title, plan in PLANS.items():
        for world in (MINI, SDXL_BASE if title in MANY_STEPS else SDXL_TURBO):
            canvas = Canvas(f"{world.name} {title}", definitions)
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
