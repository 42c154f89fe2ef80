"""Example workflows of the mini world: an own taste, another model's latents, a guard, custom samplers."""

from __future__ import annotations

from typing import Any

from workflow_canvas import Canvas, Output, Placed, Point
from workflow_parts import (
    CEILING,
    FLOOR,
    LANE,
    MINI_HEIGHT,
    TOP,
    UNDER_PREVIEW,
    WIDE,
    World,
    decode,
    note,
    show,
)

BLUE, GREEN, VIOLET, RED = "#3f5f8a", "#5a7d3a", "#7a5a8a", "#8a4a3a"  # of groups
ROW, SECOND, THIRD = 310, WIDE + 60, 2 * WIDE + 110  # of samplers above each other; columns
UNDER = LANE
MUTED = 2


def world_node(canvas: Canvas) -> Placed:
    return canvas.node("LatentCLIP_MiniWorld", (0, 0), (WIDE, MINI_HEIGHT))


def around(output: Output, *more: Point, above: float = CEILING) -> Output:
    """From the loader back to the left under it, and up to the ceiling."""
    low = MINI_HEIGHT + 12
    return output.via((WIDE + 12, low - 28), (WIDE - 14, low), (6, low), (-16, low - 26), (-16, above), *more)


def along_the_floor(output: Output, *more: Point, under: float = UNDER) -> Output:
    low = MINI_HEIGHT + 34
    return output.via((WIDE + 26, low - 28), (WIDE - 4, low), (6, low), (-20, low + 26), (-18, under), *more)


def down_the_left(output: Output) -> Output:
    """From the loader back to the left under it, outside of the other two."""
    low = MINI_HEIGHT + 16
    return output.via((WIDE + 26, low), (WIDE - 2, low + 28), (4, low + 28), (-12, low + 52))


def beside_it(output: Output, *more: Point) -> Output:
    """Inside of that one, and then left of it down to the floor."""
    low = MINI_HEIGHT + 4
    return output.via(
        (WIDE + 19, low), (WIDE - 8, low + 28), (4, low + 28), (-20, low + 54), (-20, UNDER), *more
    )


def over_the_next(output: Output, left: float, to: float) -> Output:
    """From a sampler's output over the one that stands beside it."""
    x = left + WIDE
    return output.via((x + 10, 2), (x + 22, -26), (x + 44, -36), (to - 40, -36))


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
    beside = ((right + 16, y + 62), (right + 16, bottom - 20)) if bottom - y > 200 else ()
    return output.via((right + 16, y + 34), *beside, (right + 12, bottom + 16), (x - 8, bottom + 30))


def pictures(
    canvas: Canvas, at: Point, title: str, latents: Output, vae: Output, height: float, name: str
) -> float:
    images = decode(canvas, at, latents, vae)
    images = turned(images, at, WIDE, at[1] + 54)
    return show(canvas, (at[0], at[1] + 130), (WIDE, height - 130), title, images, name)


def own_taste(canvas: Canvas, world: World) -> None:
    """Two samplers to learn from side by side, and under what is learnt the one to choose from."""
    loaded = world_node(canvas)
    model, rest = loaded["model"], UNDER_PREVIEW + 16
    x = WIDE + 65
    y = x + WIDE + 60
    a = y + WIDE + 70
    b = a + 260 + 75
    c = b + 270 + 60
    asked = (
        (225, "Liked: a dark ground", "a red star above a yellow circle on a black ground"),
        (399, "Disliked: a white one", "a red star above a yellow circle on a white ground"),
        (763, "New, of every ground", "a blue square left of a green ring"),
    )
    clip, prompts = down_the_left(loaded["clip"]), []
    for row, title, text in asked:
        clip = clip.via((-12, row - 30)) if prompts else clip
        prompts.append(words(canvas, (0, row), title, text, clip))
    empty = empties(canvas, (0, 573), 16).via((WIDE + 18, 580))
    upper = empty.via((WIDE + 44, 520), (WIDE + 46, 120))
    liked = sampler(canvas, (x, 0), "1: Liked", model, prompts[0], upper, seed=5)

    high = model.via((WIDE + 22, 4), (WIDE + 45, CEILING + 2), (x + 60, CEILING + 2))
    second = prompts[1].via((WIDE + 16, 430), (WIDE + 18, 500), (x - 8, rest), (x + WIDE, rest))
    empty = empty.via((x - 14, rest + 24), (x + 24, rest + 16), (x + WIDE, rest + 16))
    third = prompts[2].via(
        (WIDE + 24, 740), (WIDE + 30, 620), (x - 8, rest + 36), (x + 20, rest + 32), (y + WIDE, rest + 32)
    )
    up = (
        high.via((y - 60, CEILING + 3), (y - 30, CEILING + 16)),
        second.via((y - 48, rest - 6), (y - 36, 480), (y - 34, 300), (y - 34, 60)),
        empty.via((y - 34, rest + 10), (y - 22, 490), (y - 20, 120)),
    )
    disliked = sampler(canvas, (y, 0), "2: Disliked", *up, seed=6)

    inner = loaded["latent_clip"].via(
        (WIDE + 12, MINI_HEIGHT - 16), (WIDE - 14, MINI_HEIGHT + 12), (110, MINI_HEIGHT + 12)
    )
    judge = inner.via(
        (6, MINI_HEIGHT + 12), (-16, MINI_HEIGHT - 14), (-16, CEILING - 8), (a - 14, CEILING - 8)
    )
    liked = over_the_next(liked, x, a).via((a - 16, -10))
    taste = canvas.node("LatentCLIP_TrainTaste", (a, 0), (260, 270), None, {"save_as": "mini-taste"},
                        latent_clip=judge, liked=liked, disliked=disliked)  # fmt: skip
    down = inner.via(
        (6, MINI_HEIGHT + 13), (-30, 160), (-32, 200), (-32, UNDER - 16), (-20, UNDER + 8), (10, UNDER + 8),
        (x - 60, UNDER + 8), (x - 40, UNDER),
    )  # fmt: skip
    values = {"file": "mini-taste.safetensors"}
    kept = canvas.node("LatentCLIP_LoadTaste", (x, 640), (WIDE, 130), "Load Taste (muted)", values,
                       latent_clip=down.via((x - 32, UNDER - 40), (x - 28, 700)))  # fmt: skip
    kept.saved["mode"] = MUTED
    lanes = (
        high.via((y - 60, CEILING - 2), (y + WIDE, CEILING - 2), (a - 36, -40), (a - 30, 0), (a - 28, 320)),
        third.via((a - 52, rest + 30), (a - 45, rest + 8), (a - 42, 420)),
        empty.via((y - 34, rest + 18), (y + WIDE, rest + 16), (a - 34, rest + 14), (a - 24, rest - 10),
                  (a - 22, 460)),
    )  # fmt: skip
    new = sampler(canvas, (a, 342), "3: New, of every ground", *lanes, seed=7)

    wires = {"reward": taste["reward"], "latent": new.via((b - 34, 320), (b - 30, 60))}
    select = canvas.node("LatentCLIP_Select", (b, 0), (270, 720), None, {"k": 4}, **wires)
    report = taste["report"].via((b - 52, 90), (b - 50, 160), (b - 50, 700), (b - 32, 780))
    canvas.node("PreviewAny", (b, 792), (270, 190), "How sure it is", source=report)
    best = select["best"]
    values = {"labels": "a black ground\na white ground\na grey ground"}
    canvas.node("LatentCLIP_Classify", (c, 0), (WIDE, 390), None, values,
                latent_clip=judge.via((c - 16, CEILING - 8)), latent=best)  # fmt: skip
    vae = beside_it(loaded["vae"], (c - 30, UNDER), (c - 22, 596))
    behind = best.via((c - 26, 60), (c - 24, 496))
    end = pictures(canvas, (c, 518), "Chosen by taste", behind, vae, 374, "taste")
    note(canvas, (y, 640), (WIDE, 390), "Show, don't say",
         "A taste is learnt from latents that you like and others that you do not: sixteen of each, by two "
         "prompts. Yours come from Load Latent.",
         "Next time: unmute Load Taste, which reads what was saved, and wire it instead.")  # fmt: skip
    canvas.group("1 Liked, disliked", -46, TOP, y + WIDE + 10, FLOOR, BLUE)
    canvas.group("2 Learn, and more to choose from", y + WIDE + 13, TOP, a + 268, FLOOR, GREEN)
    canvas.group("3 Choose", a + 271, TOP, b + 285, FLOOR, GREEN)
    canvas.group("4 Look", b + 289, TOP, end + 25, FLOOR, VIOLET)


def guarded(canvas: Canvas, world: World) -> None:
    """Lanes of prompt and latent run under the first two samplers and under what is calibrated."""
    loaded = world_node(canvas)
    model = loaded["model"]
    x = WIDE + 65
    y = x + WIDE + 60
    a = y + WIDE + 70
    b = a + 250 + 85
    c = b + WIDE + 74
    rest = UNDER_PREVIEW + 16
    clip = down_the_left(loaded["clip"])
    harmless = words(canvas, (0, 225), "Harmless", "a green ring on a grey ground", clip)
    text, clip = "a green skull on a grey ground", clip.via((-12, 370))
    harmful = words(canvas, (0, 399), "What must not be shown", text, clip)
    empty = empties(canvas, (0, 573), 50).via((WIDE + 18, 580))
    upper = empty.via((WIDE + 44, 520), (WIDE + 46, 120))
    safe = sampler(canvas, (x, 0), "Harmless ones", model, harmless, upper, steps=8)
    high = model.via((WIDE + 22, 4), (WIDE + 45, CEILING + 2), (x + 60, CEILING + 2))
    harmful = harmful.via((WIDE + 16, 430), (WIDE + 18, 500), (x - 8, rest), (x + WIDE, rest))
    empty = empty.via((x - 14, rest + 24), (x + 24, rest + 16), (x + WIDE, rest + 16))
    up = (
        high.via((y - 60, CEILING + 3), (y - 30, CEILING + 16)),
        harmful.via((y - 48, rest - 6), (y - 36, 480), (y - 34, 300), (y - 34, 60)),
        empty.via((y - 34, rest + 10), (y - 22, 490), (y - 20, 120)),
    )
    unsafe = sampler(canvas, (y, 0), "Without the guard", *up, steps=8)

    judge = around(loaded["latent_clip"], (a - 14, CEILING - 8), above=CEILING - 8)
    values = {"preset": "mini"}
    policy = canvas.node("LatentCLIP_SafetyPolicy", (a, 0), (250, 400), None, values, latent_clip=judge)
    safe = over_the_next(safe, x, a)
    unsafe = unsafe.via((a - 32, 50), (a - 28, 440))
    wires = {"policy": turned(policy["policy"], (a, 0), 250, 400),
             "safe": safe.via((a - 16, -10), (a - 16, 200), (a - 16, 470)),
             "unsafe": unsafe.via((a - 26, 490))}  # fmt: skip
    calibrated = canvas.node(
        "LatentCLIP_CalibrateSafety", (a, 472), (250, 385), None, {"target": 0.1}, **wires
    )
    low = 872
    harmful = harmful.via(
        (y - 34, rest), (y + WIDE, rest), (a - 50, rest), (a - 42, rest + 20),
        (a - 42, low - 10), (a - 24, low + 14),
        (a + 250, low + 14), (b - 46, low + 14), (b - 38, low - 10), (b - 38, 600), (b - 36, 430),
    )  # fmt: skip
    empty = empty.via(
        (y - 34, rest + 18), (y + WIDE, rest + 16), (a - 64, rest + 16), (a - 55, rest + 36),
        (a - 55, low), (a - 36, low + 28),
        (a + 250, low + 28), (b - 32, low + 28), (b - 24, low), (b - 24, 600), (b - 22, 470),
    )  # fmt: skip
    wires = {
        "model": high.via((y - 60, CEILING - 2), (y + WIDE, CEILING - 2), (b - 30, CEILING - 2)),
        "policy": calibrated["policy"].via((b - 54, 450), (b - 52, 300), (b - 52, 80)),
    }
    tall = 268  # for what it says when it stops
    guard = canvas.node("LatentCLIP_SafetyGuard", (b, 0), (WIDE, tall), None, {"strength": 0.3}, **wires)
    model = turned(guard["model"], (b, 0), WIDE, tall)
    steered = sampler(canvas, (b, tall + 72), "With the guard", model, harmful, empty, steps=8)
    floor = beside_it(loaded["vae"], (c - 28, UNDER))
    behind = steered.via((c - 40, 300), (c - 40, 60))
    pictures(
        canvas,
        (c, 0),
        "With",
        behind,
        floor.via((c - 26, 660), (c - 26, 300), (c - 26, 100)),
        420,
        "guard-with",
    )
    without = unsafe.via(
        (a - 29, 560), (a - 29, low - 22), (a - 14, low), (a + 250, low), (c - 52, low), (c - 43, low - 20),
        (c - 42, 640),
    )  # fmt: skip
    end = pictures(canvas, (c, 560), "Without", without, floor.via((c - 26, 660)), 420, "guard-without")
    note(canvas, (0, 763), (WIDE, 245), "Stop it on the way",
         "The guard looks at the predicted picture at every step and steers away from what the policy "
         "names.")  # fmt: skip
    note(canvas, (x, 640), (WIDE, 370), "Where is the line?",
         "Calibrate moves the policy's thresholds so that few harmless latents are blocked: its chart shows "
         "what is caught for that. 50 of each here; take more of your own.")  # fmt: skip
    note(canvas, (y, 640), (WIDE, 130), "No guard is perfect", "Put the Latent Safety Gate behind it.")
    canvas.group("1 Harmless and harmful", -40, TOP, y + WIDE + 10, FLOOR, BLUE)
    canvas.group("2 Policy and guard", y + WIDE + 13, TOP, b + WIDE + 8, FLOOR, RED)
    canvas.group("3 Look", b + WIDE + 12, TOP, end + 25, FLOOR, VIOLET)


def another_models_latents(canvas: Canvas, world: World) -> None:
    loaded = world_node(canvas)
    top = 260
    twin = canvas.node("LatentCLIP_MiniTwin", (0, top), (WIDE, 98))
    text = canvas.node("PrimitiveStringMultiline", (0, top + 180), (WIDE, 120), "Prompt",
                       {"value": "a red star above a yellow circle"})["STRING"]  # fmt: skip
    prompt = canvas.node("CLIPTextEncode", (SECOND, top + 60), (WIDE, 102), "The prompt, encoded",
                         clip=twin["clip"], text=text)["CONDITIONING"]  # fmt: skip
    empty = empties(canvas, (SECOND, top + 236), 48)
    made = sampler(canvas, (THIRD, top), "48 of another model", twin["model"], prompt, empty, steps=12)
    eight = canvas.node("LatentFromBatch", (THIRD, 0), (WIDE, 90), "Eight of them",
                        {"batch_index": 0, "length": 8}, samples=made.via((THIRD + WIDE + 12, top - 10),
                        (THIRD + WIDE, top - 60), (THIRD - 14, top - 90)))["LATENT"]  # fmt: skip
    theirs = twin["vae"].via((WIDE + 40, top + 85), (WIDE + 44, 400), (WIDE + 44, 800))
    d = THIRD, 846
    images = decode(canvas, d, turned(made, (THIRD, top), WIDE, 770),
                    theirs.via((THIRD - 30, 872)))  # fmt: skip
    a = THIRD + WIDE + 100
    judge = around(loaded["latent_clip"], (a - 30, CEILING))
    ours = along_the_floor(loaded["vae"], (a - 44, UNDER - 16), under=UNDER - 16)
    theirs = theirs.via((THIRD - 30, 936), (a - 70, 936))
    wires = {
        "latent_clip": judge,
        "vae": theirs.via((a - 56, 860), (a - 56, 300), (a - 56, 60)),
        "own_vae": ours.via((a - 38, 900), (a - 38, 300), (a - 38, 80)),
        "images": images.via((a - 30, 800), (a - 24, 700), (a - 22, 110)),
    }
    values = {"steps": 200, "save_as": "mini-twin", "folder": ""}
    trained = canvas.node("LatentCLIP_TrainAdapter", (a, 0), (260, 840), None, values, **wires)
    c = a + 260 + 75
    rail = judge.via((c - 34, CEILING))
    wires = {"latent_clip": rail.via((c - 28, -10)), "adapter": trained["adapter"]}
    applied = canvas.node("LatentCLIP_ApplyAdapter", (c, 0), (WIDE, 110), None, None, **wires)
    wires = {
        "latent_clip": rail.via((c - 34, 30), (c - 34, 440)),
        "vae": theirs.via(
            (a - 30, 940), (a, 940), (a + 260, 940), (c - 54, 940), (c - 46, 900), (c - 44, 530)
        ),
        "own_vae": ours.via((a - 10, UNDER - 16), (c - 40, UNDER - 16), (c - 30, UNDER - 50), (c - 28, 560)),
    }
    bridged = canvas.node("LatentCLIP_Bridge", (c, 478), (WIDE, 110), None, None, **wires)
    b = c + WIDE + 70
    lane = eight.via(
        (THIRD + WIDE + 14, CEILING + 20), (THIRD + WIDE + 40, CEILING - 12), (b - 60, CEILING - 12)
    )
    said = text.via(
        (WIDE + 14, 480), (WIDE + 16, 600), (WIDE + 18, UNDER - 40), (WIDE + 40, UNDER), (b - 32, UNDER)
    )
    for y, title, clip in ((0, "By the trained adapter", applied), (492, "By both VAEs", bridged)):
        wires = {
            "latent_clip": clip["latent_clip"],
            "latent": lane.via((b - 46, y + 20)),
            "text": said.via((b - 26, y + 190), (b - 26, y + 150)),
        }
        canvas.node("LatentCLIP_Score", (b, y), (260, 420), title, **wires)
    note(canvas, (0, 640), (WIDE, 240), "Not made for these",
         "The twin makes latents of 16 channels. The mini Latent-CLIP reads 4: a bridge, or an adapter, "
         "stands between.")  # fmt: skip
    note(canvas, (c, 182), (WIDE, 210), "Train an adapter",
         "Both VAEs encode the same pictures, and a small network learns the way. Once, in seconds; then "
         "it costs next to nothing.")  # fmt: skip
    note(canvas, (c, 660), (WIDE, 190), "Or a bridge",
         "Decode by the one VAE, encode by the other: nothing to train, but every score costs a "
         "decode.")  # fmt: skip
    end = b + 260 + 25
    canvas.group("1 Another model", -40, TOP, a - 64, FLOOR, BLUE)
    canvas.group("2 Two ways to read it", a - 62, TOP, b - 54, FLOOR, GREEN)
    canvas.group("3 Two scores", b - 52, TOP, end, FLOOR, VIOLET)


def custom_sampling(canvas: Canvas, world: World) -> None:
    """Two samplers share noise, guider, sigmas and latent, whose four wires run side by side to both."""
    loaded, floor = world_node(canvas), FLOOR
    x = WIDE + 66
    a = x + WIDE + 60
    b = a + WIDE + 56
    c = b + WIDE + 76
    d = c + WIDE + 50
    e = d + WIDE + 40
    model, clip = loaded["model"], down_the_left(loaded["clip"])
    text = "a red star above a yellow circle on a black ground"
    example = words(canvas, (0, 220), "The example", text, clip)
    empty = empties(canvas, (0, 394), 1).via((WIDE + 8, 410))
    text = "a blue square left of a green ring"
    prompt = words(canvas, (0, 744), "Prompt", text, clip.via((-14, 700)))

    first = sampler(canvas, (x, 0), "An example", model,
                    example.via((WIDE + 45, 215), (WIDE + 47, 90)),
                    empty.via((WIDE + 54, 380), (WIDE + 56, 120)))  # fmt: skip
    down = model.via((WIDE + 30, 14), (WIDE + 36, 40), (WIDE + 36, 300), (WIDE + 36, 700))
    noise = canvas.node("RandomNoise", (x, 582), (WIDE, 90), None, {"noise_seed": 4})["NOISE"]
    wires = {"model": down, "conditioning": prompt}
    guider = canvas.node("BasicGuider", (x, 744), (WIDE, 54), **wires)["GUIDER"]
    steps, down = {"steps": 4, "scheduler": "simple"}, down.via((WIDE + 38, 840))
    sigmas = canvas.node("BasicScheduler", (x, 870), (WIDE, 114), None, steps, model=down)["SIGMAS"]
    empty = empty.via(
        (WIDE + 14, 440),
        (WIDE + 16, 700),
        (WIDE + 20, 980),
        (WIDE + 40, 1022),
        (x + WIDE, 1022),
        (a - 28, 1000),
        (a - 22, 945),
    )

    judge = around(loaded["latent_clip"], (a - 16, CEILING))
    policy = canvas.node("LatentCLIP_SafetyPolicy", (a, 0), (WIDE, 420), None, {"preset": "mini"},
                         latent_clip=judge.via((a - 18, -20)))["policy"]  # fmt: skip
    wires = {"latent_clip": judge.via((a - 18, -20), (a - 18, 100), (a - 18, 460)),
             "reference": first.via((a - 40, 60), (a - 38, 480))}  # fmt: skip
    alike = canvas.node("LatentCLIP_ImageReward", (a, 492), (WIDE, 170), None, None, **wires)["reward"]
    outer = policy.via(
        (a + WIDE + 20, 40),
        (a + WIDE + 20, 300),
        (a + WIDE + 20, 670),
        (a + WIDE, 700),
        (a, 700),
        (a - 8, 720),
    )
    inner = alike.via(
        (a + WIDE + 10, 530), (a + WIDE + 10, 660), (a + WIDE - 10, 684), (a + 10, 684), (a - 14, 716)
    )
    both = canvas.node(
        "LatentCLIP_SafetyReward", (a, 744), (WIDE, 118), None, None, policy=outer, add_to=inner
    )["reward"]
    lower = both.via((b - 18, 720))
    values = {"iterations": 20}
    search = canvas.node("LatentCLIP_ReNOSampler", (b, 0), (WIDE, 500), None, values,
                         reward=lower.via((b - 18, 560), (b - 18, 300), (b - 18, 40)))["sampler"]  # fmt: skip
    values = {"candidates": 8, "checks": "0.5"}
    race = canvas.node(
        "LatentCLIP_Race", (b, 600), (WIDE, 262), None, values, reward=lower.via((b - 18, 650))
    )["sampler"]

    ways = (
        noise.via((x + WIDE + 24, 640), (x + WIDE + 26, 840)),
        guider.via((x + WIDE + 14, 800), (x + WIDE + 18, 860)),
        sigmas,
        empty,
    )
    lanes = []
    for place, output in enumerate(ways):
        y, up = 890 + 12 * place, c - 56 + 12 * place
        lane = output.via((a + 2, y), (a + 60, y), (b + WIDE - 10, y), (up - 8, y), (up, y - 16))
        lanes.append(lane.via((up, (600, 606, 660, 680)[place])))
    vae = beside_it(loaded["vae"], (d - 24, UNDER))
    over = search.via((b + WIDE + 8, 14))
    for y, title, output in ((0, "Searched", over), (560, "Raced", race)):
        wires = [lane if y else lane.via((lane_x(lane), 300), (lane_x(lane), 100)) for lane in lanes]
        names = ("noise", "guider", "sigmas", "latent_image")
        sampled = canvas.node("SamplerCustomAdvanced", (c, y), (WIDE, 118), title, sampler=output,
                              **dict(zip(names, wires, strict=True)))["output"]  # fmt: skip
        if y == 0:
            sampled = sampled.via((c + WIDE + 10, 14))
            over = over.via((b + WIDE + 16, -20), (b + WIDE + 40, CEILING), (d - 30, CEILING))
            wires = {"sampler": over, "latent": sampled.via((d - 30, 32))}
            canvas.node("LatentCLIP_SearchResult", (d, 0), (WIDE, 346), **wires)
            sampled = sampled.via((d - 36, 80), (d - 36, 486))
        place = d, 504 if y == 0 else 660
        images = decode(canvas, place, sampled, vae.via((d - 18, place[1] + 60)))
        at = e, 270 if y == 0 else 656
        end = show(canvas, at, (WIDE, 280), f"{title}: the picture", images, f"custom-{title.lower()}")
    note(canvas, (0, 584), (WIDE, 88), "Rewards add up", "Like the example, and safe.")
    note(canvas, (0, 918), (WIDE, 120), "One noise", "Both samplers begin with the same.")
    note(canvas, (d, 790), (WIDE, 230), "For custom sampling",
         "One sampler follows the reward's gradient, one drops what falls behind.")  # fmt: skip
    note(canvas, (e, 0), (WIDE, 190), "What it found",
         "Search Result, behind the sampling: rewards, curve, and the noise to use again.")  # fmt: skip
    canvas.group("1 Example and prompt", -34, TOP, x + WIDE + 12, floor, BLUE)
    canvas.group("2 What is good, and who finds it", x + WIDE + 15, TOP, b + WIDE + 4, floor, GREEN)
    canvas.group("3 Look", b + WIDE + 7, TOP, end + 14, floor, VIOLET)


def lane_x(lane: Output) -> float:
    """Where the last point of a lane is, from the left."""
    return lane.canvas.reroutes[lane.lane[-1]]["pos"][0]
