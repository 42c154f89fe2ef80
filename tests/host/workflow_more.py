"""Example workflows of the mini world: an own taste, another model's latents, a guard, custom samplers."""

from __future__ import annotations

from typing import Any

from workflow_canvas import Canvas, Output, Placed, Point
from workflow_parts import CEILING, FLOOR, MINI_HEIGHT, TOP, WIDE, World, decode, note, show

BLUE, GREEN, VIOLET, RED = "#3f5f8a", "#5a7d3a", "#7a5a8a", "#8a4a3a"  # of groups
ROW, SECOND, THIRD = 310, WIDE + 60, 2 * WIDE + 110  # of samplers above each other; columns
UNDER = FLOOR - 25
MUTED = 2


def world_node(canvas: Canvas) -> Placed:
    return canvas.node("LatentCLIP_MiniWorld", (0, 0), (WIDE, MINI_HEIGHT))


def around(output: Output, *more: Point) -> Output:
    """From the loader back to the left under it, and up to the ceiling."""
    low = MINI_HEIGHT + 12
    return output.via(
        (WIDE + 12, low - 28), (WIDE - 14, low), (6, low), (-16, low - 26), (-16, CEILING), *more
    )


def along_the_floor(output: Output, *more: Point, under: float = UNDER) -> Output:
    low = MINI_HEIGHT + 34
    return output.via((WIDE + 26, low - 28), (WIDE - 4, low), (6, low), (-20, low + 26), (-18, under), *more)


def words(canvas: Canvas, at: Point, title: str, text: str, clip: Output) -> Output:
    return canvas.node("CLIPTextEncode", at, (WIDE, 102), title, {"text": text}, clip=clip)["CONDITIONING"]


def sampler(
    canvas: Canvas, at: Point, title: str, model: Output, prompt: Output, empty: Output, **values: Any
) -> Output:
    settings = {"seed": 7, "cfg": 1.0, "steps": 1, "sampler_name": "euler", "scheduler": "normal", **values}
    wires = {"model": model, "positive": prompt, "negative": prompt, "latent_image": empty}
    return canvas.node("KSampler", at, (WIDE, 270), title, settings, **wires)["LATENT"]


def empties(canvas: Canvas, at: Point, batch: int) -> Output:
    size = {"width": 64, "height": 64, "batch_size": batch}
    return canvas.node("EmptyLatentImage", at, (WIDE, 118), None, size)["LATENT"]


def turned(output: Output, at: Point, width: float, bottom: float) -> Output:
    """A wire from a node around its right end to one that stands below it."""
    (x, y), right = at, at[0] + width
    return output.via((right + 18, y + 34), (right + 14, bottom + 16), (x - 8, bottom + 30))


def pictures(
    canvas: Canvas, at: Point, title: str, latents: Output, vae: Output, height: float, name: str
) -> float:
    images = decode(canvas, at, latents, vae)
    images = turned(images, at, WIDE, at[1] + 54)
    return show(canvas, (at[0], at[1] + 130), (WIDE, height - 130), title, images, name)


def own_taste(canvas: Canvas, world: World) -> None:
    loaded = world_node(canvas)
    up = (SECOND - 24, 330), (SECOND - 24, 640)
    empty = empties(canvas, (0, 700), 16).via((WIDE + 22, 590), (THIRD - 22, 560))
    asked = (
        ("Liked: a dark ground", "a red star above a yellow circle on a black ground"),
        ("Disliked: a white one", "a red star above a yellow circle on a white ground"),
        ("New, of every ground", "a blue square left of a green ring"),
    )
    made = []
    for row, (title, text) in enumerate(asked):
        y, clip, model = ROW * row, loaded["clip"], loaded["model"]
        if row:
            clip, model = clip.via(*up[:row]), model.via((THIRD - 36, 14), (THIRD - 34, y - 10))
        prompt = words(canvas, (SECOND, y + 60), title, text, clip)
        made.append(sampler(canvas, (THIRD, y), f"{row + 1}: {title.split(':')[0]}", model, prompt, empty,
                            seed=5 + row))  # fmt: skip
    a = THIRD + WIDE + 60
    judge = around(loaded["latent_clip"], (a - 40, CEILING))
    values = {"save_as": "mini-taste"}
    liked, disliked, new = made
    taste = canvas.node("LatentCLIP_TrainTaste", (a, 0), (260, 270), None, values, latent_clip=judge,
                        liked=liked, disliked=disliked.via((a - 22, 250)))  # fmt: skip
    report = turned(taste["report"], (a, 40), 260, 270)
    canvas.node("PreviewAny", (a, 340), (260, 190), "How sure it is", source=report)
    down = judge.via((a - 34, 30), (a - 34, 640))
    values = {"file": "mini-taste.safetensors"}
    kept = canvas.node(
        "LatentCLIP_LoadTaste", (a, 630), (260, 130), "Load Taste (muted)", values, latent_clip=down
    )
    kept.saved["mode"] = MUTED
    b = a + 260 + 60
    lane = new.via((a - 14, 590), (b - 40, 568))
    select = canvas.node("LatentCLIP_Select", (b, 0), (270, 720), None, {"k": 4}, reward=taste["reward"],
                         latent=lane)  # fmt: skip
    c = b + 270 + 60
    floor = along_the_floor(loaded["vae"], (c - 34, UNDER), (c - 30, 100))
    end = pictures(canvas, (c, 0), "Chosen by taste", select["best"], floor, 430, "taste")
    values = {"labels": "a black ground\na white ground\na grey ground"}
    sees = judge.via((b - 30, CEILING), (c - 50, CEILING), (c - 46, 450))
    canvas.node("LatentCLIP_Classify", (c, 490), (WIDE, 390), None, values, latent_clip=sees,
                latent=select["best"].via((c - 22, 200), (c - 20, 450)))  # fmt: skip
    note(canvas, (0, 210), (WIDE, 430), "Show, don't say",
         "A taste is learnt from latents that you like and others that you do not: sixteen of each, by two "
         "prompts. Yours come from Load Latent.",
         "Next time: unmute Load Taste, which reads what was saved, and wire it instead.")  # fmt: skip
    canvas.group("1 Liked, disliked, new", -40, TOP, a - 44, FLOOR, BLUE)
    canvas.group("2 Learn and choose", a - 40, TOP, b + 285, FLOOR, GREEN)
    canvas.group("3 Look", b + 290, TOP, end + 25, FLOOR, VIOLET)


def guarded(canvas: Canvas, world: World) -> None:
    loaded, second = world_node(canvas), 540
    empty = empties(canvas, (0, 640), 50).via((WIDE + 18, 620), (WIDE + 22, 540), (THIRD - 26, 530))
    model, clip = loaded["model"], loaded["clip"]
    harmless = words(canvas, (SECOND, 60), "Harmless", "a green square above a purple circle", clip)
    text, clip = "a yellow star above a purple skull", clip.via((SECOND - 24, 70), (SECOND - 26, 500))
    harmful = words(canvas, (SECOND, second + 60), "What must not be shown", text, clip)
    safe = sampler(canvas, (THIRD, 0), "Harmless ones", model, harmless, empty, steps=8)
    down = model.via((THIRD - 36, 14), (THIRD - 34, second - 10))
    unsafe = sampler(canvas, (THIRD, second), "Without the guard", down, harmful, empty, steps=8)
    a = THIRD + WIDE + 70
    judge = around(loaded["latent_clip"], (a - 30, CEILING))
    values = {"preset": "mini"}
    policy = canvas.node("LatentCLIP_SafetyPolicy", (a, 0), (250, 400), None, values, latent_clip=judge)
    wires = {"policy": turned(policy["policy"], (a, 0), 250, 400),
             "safe": safe.via((a - 46, 420), (a - 34, 500)),
             "unsafe": unsafe.via((a - 40, 540))}  # fmt: skip
    calibrated = canvas.node(
        "LatentCLIP_CalibrateSafety", (a, 505), (250, 385), None, {"target": 0.1}, **wires
    )
    b = a + 250 + 75
    high = model.via((WIDE + 20, 8), (WIDE + 45, CEILING - 15), (b - 40, CEILING - 15))
    wires = {"model": high, "policy": calibrated["policy"].via((b - 22, 400), (b - 24, 120))}
    guard = canvas.node("LatentCLIP_SafetyGuard", (b, 0), (WIDE, 160), None, {"strength": 0.3}, **wires)
    low = harmful.via((THIRD - 10, second + 292), (a - 20, second + 292), (a - 20, 436), (b - 40, 438))
    steered = sampler(
        canvas,
        (b, 240),
        "With the guard",
        turned(guard["model"], (b, 0), WIDE, 160),
        low,
        empty.via(
            (THIRD - 24, second + 280),
            (THIRD + 20, second + 306),
            (a - 32, second + 300),
            (a - 13, 600),
            (a - 14, 450),
            (b - 34, 452),
        ),
        steps=8,
    )
    c = b + WIDE + 60
    floor = along_the_floor(loaded["vae"], (c - 34, UNDER))
    without = unsafe.via((a - 42, 314), (a - 46, CEILING + 8), (c - 40, CEILING + 8))
    pictures(canvas, (c, 0), "Without", without, floor.via((c - 28, 100)), 420, "guard-without")
    end = pictures(
        canvas, (c, 480), "With", steered.via((c - 46, 440)), floor.via((c - 28, 600)), 420, "guard-with"
    )
    note(
        canvas,
        (0, 220),
        (WIDE, 330),
        "Stop it on the way",
        "The guard looks at the predicted picture at every step and steers away from what the policy names.",
    )
    note(canvas, (SECOND, 240), (WIDE, 240), "Where is the line?",
         "Calibrate moves the policy's thresholds so that few harmless latents are blocked: its chart shows "
         "what is caught for that. 50 of each here; take more of your own.")  # fmt: skip
    note(canvas, (b, 800), (WIDE, 200), "No guard is perfect", "Put the Latent Safety Gate behind it.")
    canvas.group("1 Harmless and harmful", -40, TOP, a - 62, FLOOR, BLUE)
    canvas.group("2 Policy and guard", a - 58, TOP, b + WIDE + 8, FLOOR, RED)
    canvas.group("3 Look", b + WIDE + 12, TOP, end + 25, FLOOR, VIOLET)


def another_models_latents(canvas: Canvas, world: World) -> None:
    loaded = world_node(canvas)
    top = 260
    twin = canvas.node("LatentCLIP_MiniTwin", (0, top), (WIDE, 98))
    text = canvas.node("PrimitiveStringMultiline", (0, top + 180), (WIDE, 120), "Prompt",
                       {"value": "a red star above a yellow circle"})["STRING"]  # fmt: skip
    prompt = canvas.node("CLIPTextEncode", (SECOND, top + 60), (WIDE, 102), "The prompt, encoded",
                         clip=twin["clip"], text=text)["CONDITIONING"]  # fmt: skip
    empty = empties(canvas, (SECOND, top + 230), 48)
    made = sampler(canvas, (THIRD, top), "48 of another model", twin["model"], prompt, empty, steps=12)
    eight = canvas.node("LatentFromBatch", (THIRD, 0), (WIDE, 90), "Eight of them",
                        {"batch_index": 0, "length": 8}, samples=made.via((THIRD + WIDE + 20, top - 20),
                        (THIRD + WIDE, top - 60), (THIRD - 14, top - 90)))["LATENT"]  # fmt: skip
    theirs = twin["vae"].via((WIDE + 20, top + 85), (WIDE + 24, 600))
    d = THIRD, 820
    images = decode(canvas, d, turned(made, (THIRD, top), WIDE, 770),
                    theirs.via((THIRD - 30, 848)))  # fmt: skip
    a = THIRD + WIDE + 75
    judge = around(loaded["latent_clip"], (a - 30, CEILING))
    ours = along_the_floor(loaded["vae"], (a - 44, UNDER))
    theirs = theirs.via((THIRD - 30, 910), (a - 60, 920))
    wires = {
        "latent_clip": judge,
        "vae": theirs.via((a - 56, 60)),
        "own_vae": ours.via((a - 40, 80)),
        "images": images.via((a - 26, 560), (a - 22, 110)),
    }
    values = {"steps": 200, "save_as": "mini-twin", "folder": ""}
    trained = canvas.node("LatentCLIP_TrainAdapter", (a, 0), (260, 840), None, values, **wires)
    c = a + 260 + 75
    rail = judge.via((c - 34, CEILING))
    wires = {"latent_clip": rail.via((c - 28, -10)), "adapter": trained["adapter"]}
    applied = canvas.node("LatentCLIP_ApplyAdapter", (c, 0), (WIDE, 110), None, None, **wires)
    wires = {
        "latent_clip": rail.via((c - 34, 30), (c - 34, 440)),
        "vae": theirs.via((a - 56, UNDER - 40), (c - 26, UNDER - 40), (c - 24, 540)),
        "own_vae": ours.via((c - 46, UNDER), (c - 44, 560)),
    }
    bridged = canvas.node("LatentCLIP_Bridge", (c, 475), (WIDE, 110), None, None, **wires)
    b = c + WIDE + 70
    lane = eight.via((THIRD + WIDE + 12, CEILING - 12), (b - 50, CEILING - 12))
    said = text.via((WIDE + 30, UNDER - 20), (b - 32, UNDER - 20))
    for y, title, clip in ((0, "By the trained adapter", applied), (475, "By both VAEs", bridged)):
        wires = {
            "latent_clip": clip["latent_clip"],
            "latent": lane.via((b - 46, y + 20)),
            "text": said.via((b - 26, y + 190), (b - 26, y + 150)),
        }
        canvas.node("LatentCLIP_Score", (b, y), (260, 420), title, **wires)
    note(canvas, (0, 640), (WIDE, 240), "Not made for these",
         "The twin makes latents of 16 channels. The mini Latent-CLIP reads 4: a bridge, or an adapter, "
         "stands between.")  # fmt: skip
    note(canvas, (c, 170), (WIDE, 210), "Train an adapter",
         "Both VAEs encode the same pictures, and a small network learns the way. Once, in seconds; then "
         "it costs next to nothing.")  # fmt: skip
    note(canvas, (c, 645), (WIDE, 190), "Or a bridge",
         "Decode by the one VAE, encode by the other: nothing to train, but every score costs a "
         "decode.")  # fmt: skip
    end = b + 260 + 25
    canvas.group("1 Another model", -40, TOP, a - 64, FLOOR, BLUE)
    canvas.group("2 Two ways to read it", a - 62, TOP, b - 54, FLOOR, GREEN)
    canvas.group("3 Two scores", b - 52, TOP, end, FLOOR, VIOLET)


def custom_sampling(canvas: Canvas, world: World) -> None:
    loaded = world_node(canvas)
    floor, model, left = FLOOR + 20, loaded["model"], SECOND
    under = floor - 58
    empty = empties(canvas, (0, 575), 1)
    clip = loaded["clip"].via((WIDE + 40, 60), (WIDE + 36, 150), (2, 158), (-20, 196))
    text = "a blue square left of a green ring"
    prompt = words(canvas, (0, 205), "Prompt", text, clip)
    text = "a red star above a yellow circle on a black ground"
    example = words(canvas, (0, 390), "The example", text, clip.via((-18, 300), (-14, 384)))
    guider = canvas.node("BasicGuider", (left, 0), (WIDE, 54), model=model, conditioning=prompt)["GUIDER"]
    down, steps = model.via((left - 20, 30), (left - 18, 100)), {"steps": 4, "scheduler": "simple"}
    sigmas = canvas.node("BasicScheduler", (left, 120), (WIDE, 114), None, steps, model=down)
    noise = canvas.node("RandomNoise", (left, 300), (WIDE, 90), None, {"noise_seed": 4})["NOISE"]
    first = sampler(canvas, (left, 470), "An example", down.via((left - 18, 450)), example, empty)
    a = left + WIDE + 85
    judge = around(loaded["latent_clip"], (a - 30, CEILING))
    vae = along_the_floor(loaded["vae"], (a - 66, under), under=under)
    up = vae.via((a - 62, 60))
    images = decode(canvas, (a, 0), first.via((a - 44, 450), (a - 42, 40)), up)
    down = judge.via((a - 34, 30), (a - 34, 110))
    wires = {"image": turned(images, (a, 0), WIDE, 54), "vae": up, "latent_clip": down}
    alike = canvas.node("LatentCLIP_ImageReward", (a, 150), (WIDE, 170), None, None, **wires)
    down = down.via((a - 34, 380))
    values = {"preset": "mini"}
    policy = canvas.node("LatentCLIP_SafetyPolicy", (a, 400), (WIDE, 420), None, values, latent_clip=down)
    b = a + WIDE + 60
    wires = {"policy": policy["policy"].via((b - 20, 300)), "add_to": alike["reward"].via((b - 30, 90))}
    both = canvas.node("LatentCLIP_SafetyReward", (b, 0), (WIDE, 118), None, None, **wires)["reward"]
    reward = turned(both, (b, 0), WIDE, 118)
    search = canvas.node(
        "LatentCLIP_ReNOSampler", (b, 195), (WIDE, 470), None, {"iterations": 20}, reward=reward
    )
    lower = reward.via((b - 16, 400), (b - 14, 700))
    values = {"candidates": 8, "checks": "0.5"}
    race = canvas.node("LatentCLIP_Race", (b, 725), (WIDE, 270), None, values, reward=lower)
    c, made = b + WIDE + 95, list[Output]()
    d = c + WIDE + 60
    down = left + WIDE + 22
    lanes = (
        empty.via((WIDE + 30, floor - 50)),
        sigmas["SIGMAS"].via((down, 170), (down, 260)),
        guider.via((down + 9, 50), (down + 9, 140)),
        noise.via((down + 18, 350), (down + 18, 440)),
    )
    rail = [output.via((a - 50 + 9 * k, floor - 50 + 10 * k), (c - 60 + 9 * k, floor - 50 + 10 * k))
            for k, output in enumerate(lanes)]  # fmt: skip
    vae = vae.via((d - 34, under))
    for y, title, output in ((0, "Searched", search["sampler"]), (400, "Raced", race["sampler"])):
        latent, sigma, guide, noises = (each.via((c - 60 + 9 * k, y + 150)) for k, each in enumerate(rail))
        wires = {"noise": noises, "guider": guide, "sampler": output, "sigmas": sigma, "latent_image": latent}
        made.append(canvas.node("SamplerCustomAdvanced", (c, y), (WIDE, 118), title, **wires)["output"])
        place, name = (d, 470 * bool(y)), f"custom-{title.lower()}"
        lane = vae.via((d - 30, place[1] + 80))
        end = pictures(canvas, place, f"{title}: the picture", made[-1], lane, 420, name)
    found = made[0].via((c + WIDE + 18, 40), (c + WIDE + 14, 140), (c - 8, 152), (c - 12, 570))
    over = search["sampler"].via((c - 22, 300), (c - 18, 560))
    canvas.node("LatentCLIP_SearchResult", (c, 600), (WIDE, 400), sampler=over, latent=found)
    note(canvas, (0, 745), (WIDE, 110), "Rewards add up",
         "To look like the example, and to be safe: chained by add_to.")  # fmt: skip
    note(canvas, (0, 905), (WIDE, 110), "What it found",
         "Behind the sampling: rewards, curve, and the noise to use again.")  # fmt: skip
    note(canvas, (a, 870), (WIDE, 145), "For custom sampling",
         "One sampler follows the reward's gradient, one drops what falls behind.")  # fmt: skip
    canvas.group("1 Example and prompt", -40, TOP, a - 72, floor, BLUE)
    canvas.group("2 What is good, and who finds it", a - 68, TOP, c - 76, floor, GREEN)
    canvas.group("3 Look", c - 74, TOP, end + 25, floor, VIOLET)
