"""Example workflows of the mini world: an own taste, another model's latents, a guard, custom samplers."""

from __future__ import annotations

from typing import Any

from workflow_canvas import Canvas, Output, Placed, Point
from workflow_parts import CEILING, FLOOR, LANE, MINI_HEIGHT, SECOND_ROW, TOP, WIDE, World, decode, note, show

BLUE, GREEN, VIOLET, RED = "#3f5f8a", "#5a7d3a", "#7a5a8a", "#8a4a3a"  # of groups
ROW, SECOND, THIRD = 310, WIDE + 60, 2 * WIDE + 110  # of samplers above each other; columns
UNDER = LANE
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
    """Two samplers to learn from above each other, and one beside what is learnt: previews have room."""
    loaded, left, top, floor = world_node(canvas), WIDE + 95, -100, 1085
    asked = (
        ("Liked: a dark ground", "a red star above a yellow circle on a black ground"),
        ("Disliked: a white one", "a red star above a yellow circle on a white ground"),
        ("New, of every ground", "a blue square left of a green ring"),
    )
    clip, prompts = loaded["clip"].via((WIDE + 38, 60), (WIDE + 30, 166), (4, 174), (-10, 206)), []
    for row, (title, text) in enumerate(asked):
        y = 225 + 172 * row
        if row:
            clip = clip.via((-10, y - 10))
        prompts.append(words(canvas, (0, y), title, text, clip))
    empty, model = empties(canvas, (0, 745), 16), loaded["model"]
    down = model.via((left - 36, 14), (left - 34, SECOND_ROW - 10))
    high = empty.via((WIDE + 48, 690))
    liked = sampler(canvas, (left, 0), "1: Liked", model, prompts[0], high.via((WIDE + 50, 110)), seed=5)
    disliked = sampler(canvas, (left, SECOND_ROW), "2: Disliked", down, prompts[1], high, seed=6)
    a = left + WIDE + 75
    judge = around(loaded["latent_clip"], (a - 40, CEILING))
    taste = canvas.node("LatentCLIP_TrainTaste", (a, 0), (260, 270), None, {"save_as": "mini-taste"},
                        latent_clip=judge, liked=liked, disliked=disliked.via((a - 22, 250)))  # fmt: skip
    report = turned(taste["report"], (a, 40), 260, 270)
    canvas.node("PreviewAny", (a, 340), (260, 190), "How sure it is", source=report)
    values, wire = {"file": "mini-taste.safetensors"}, judge.via((a - 34, 30), (a - 34, 620))
    kept = canvas.node("LatentCLIP_LoadTaste", (a, 610), (260, 130), "Load Taste (muted)", values,
                       latent_clip=wire)  # fmt: skip
    kept.saved["mode"] = MUTED
    n = a + 260 + 95
    lanes = (  # along the floor: the lower, the further right it goes up again
        down.via((left - 30, floor - 27), (n - 64, floor - 27), (n - 62, 40)),
        prompts[2].via((WIDE + 34, 640), (WIDE + 34, floor - 20), (n - 50, floor - 20), (n - 48, 80)),
        empty.via((WIDE + 20, 800), (WIDE + 20, floor - 13), (n - 36, floor - 13), (n - 34, 110)),
    )
    new = sampler(canvas, (n, 0), "3: New, of every ground", *lanes, seed=7)
    b = n + WIDE + 70
    reward = taste["reward"].via((a + 286, 70), (a + 286, 500), (n - 20, 536), (b - 40, 536), (b - 26, 80))
    wires = {"reward": reward, "latent": new}
    select = canvas.node("LatentCLIP_Select", (b, 0), (270, 720), None, {"k": 4}, **wires)
    c = b + 270 + 65
    high = CEILING - 10
    vae = loaded["vae"].via((WIDE + 24, 120), (WIDE + 2, 152), (6, 152), (-24, 120), (-24, high))
    end = pictures(canvas, (c, 0), "Chosen by taste", select["best"], vae.via((c - 28, high)), 430, "taste")
    values = {"labels": "a black ground\na white ground\na grey ground"}
    sees = judge.via((b - 30, CEILING), (c - 48, CEILING), (c - 44, 450))
    canvas.node("LatentCLIP_Classify", (c, 490), (WIDE, 390), None, values, latent_clip=sees,
                latent=select["best"].via((c - 22, 200), (c - 20, 450)))  # fmt: skip
    note(canvas, (n, 600), (WIDE, 420), "Show, don't say",
         "A taste is learnt from latents that you like and others that you do not: sixteen of each, by two "
         "prompts. Yours come from Load Latent.",
         "Next time: unmute Load Taste, which reads what was saved, and wire it instead.")  # fmt: skip
    canvas.group("1 Liked, disliked", -40, top, a - 46, floor, BLUE)
    canvas.group("2 Learn", a - 42, top, n - 72, floor, GREEN)
    canvas.group("3 Choose among new ones", n - 68, top, b + 285, floor, GREEN)
    canvas.group("4 Look", b + 289, top, end + 25, floor, VIOLET)


def guarded(canvas: Canvas, world: World) -> None:
    loaded, second, third = world_node(canvas), SECOND_ROW, THIRD + 40
    empty = empties(canvas, (0, 640), 50).via((WIDE + 18, 620), (WIDE + 22, 540), (third - 30, 530))
    upper = empty.via((third - 34, 470), (third - 32, 120))
    model, clip = loaded["model"], loaded["clip"]
    harmless = words(canvas, (SECOND, 60), "Harmless", "a green ring on a grey ground", clip)
    text, clip = "a green skull on a grey ground", clip.via((SECOND - 24, 70), (SECOND - 26, 500))
    harmful = words(canvas, (SECOND, second + 60), "What must not be shown", text, clip)
    safe = sampler(canvas, (third, 0), "Harmless ones", model, harmless, upper, steps=8)
    down = model.via((third - 66, 14), (third - 64, second - 20))
    unsafe = sampler(canvas, (third, second), "Without the guard", down, harmful, empty, steps=8)
    a = third + WIDE + 70
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
    high = model.via((WIDE + 20, 8), (WIDE + 45, CEILING - 24), (b - 36, CEILING - 24))
    wires = {"model": high, "policy": calibrated["policy"].via((b - 22, 400), (b - 24, 120))}
    tall = 268  # for what it says when it stops
    guard = canvas.node("LatentCLIP_SafetyGuard", (b, 0), (WIDE, tall), None, {"strength": 0.3}, **wires)
    over = (  # along the ceiling: there is no room under the live previews
        harmful.via(
            (third - 52, 560), (third - 50, CEILING - 16), (b - 48, CEILING - 16), (b - 46, tall + 90)
        ),
        upper.via((third - 30, CEILING - 8), (b - 60, CEILING - 8), (b - 58, tall + 130)),
    )
    model = turned(guard["model"], (b, 0), WIDE, tall)
    steered = sampler(canvas, (b, tall + 80), "With the guard", model, *over, steps=8)
    c = b + WIDE + 60
    floor = along_the_floor(loaded["vae"], (c - 34, UNDER))
    without = unsafe.via((a - 42, 314), (a - 46, CEILING + 10), (c - 40, CEILING + 10))
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
    note(canvas, (b, 905), (WIDE, 100), "No guard is perfect", "Put the Latent Safety Gate behind it.")
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
    said = text.via((WIDE + 22, UNDER - 20), (b - 32, UNDER - 20))
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
    floor, model, left = FLOOR, loaded["model"], SECOND
    under = floor - 50
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
        "LatentCLIP_ReNOSampler", (b, 190), (WIDE, 500), None, {"iterations": 20}, reward=reward
    )
    lower = reward.via((b - 16, 400), (b - 14, 715))
    values = {"candidates": 8, "checks": "0.5"}
    race = canvas.node("LatentCLIP_Race", (b, 740), (WIDE, 262), None, values, reward=lower)
    c, made = b + WIDE + 95, list[Output]()
    d = c + WIDE + 75
    down = left + WIDE + 22
    lanes = (
        empty.via((WIDE + 30, floor - 42)),
        sigmas["SIGMAS"].via((down, 170), (down, 260)),
        guider.via((down + 9, 50), (down + 9, 140)),
        noise.via((down + 18, 350), (down + 18, 440)),
    )
    rail = [output.via((a - 50 + 9 * k, floor - 42 + 10 * k), (c - 60 + 9 * k, floor - 42 + 10 * k))
            for k, output in enumerate(lanes)]  # fmt: skip
    vae = vae.via((c - 72, under))
    rows = ((0, "Searched", search["sampler"], 0), (535, "Raced", race["sampler"], 750))
    for y, title, output, shown_at in rows:
        latent, sigma, guide, noises = (each.via((c - 60 + 9 * k, y + 150)) for k, each in enumerate(rail))
        wires = {"noise": noises, "guider": guide, "sampler": output, "sigmas": sigma, "latent_image": latent}
        sampled = canvas.node("SamplerCustomAdvanced", (c, y), (WIDE, 118), title, **wires)["output"]
        made.append(sampled.via((c + WIDE + 18, y + 34)))
        around_it = made[-1].via((c + WIDE + 14, y + 382), (c - 8, y + 396))
        images = decode(canvas, (c, y + 430), around_it, vae.via((c - 70, y + 470)))
        name = f"custom-{title.lower()}"
        end = show(canvas, (d, shown_at), (WIDE, 280), f"{title}: the picture", images, name)
    over = search["sampler"].via((c - 28, 270), (c - 26, 450), (c - 8, 486), (c + 16, 488), (c + WIDE, 489))
    found = made[0].via((c + WIDE + 40, 300))
    canvas.node("LatentCLIP_SearchResult", (d, 360), (WIDE, 346), sampler=over, latent=found)
    note(canvas, (0, 745), (WIDE, 110), "Rewards add up",
         "To look like the example, and to be safe: chained by add_to.")  # fmt: skip
    note(canvas, (0, 895), (WIDE, 110), "What it found",
         "Behind the sampling: rewards, curve, and the noise to use again.")  # fmt: skip
    note(canvas, (a, 870), (WIDE, 135), "For custom sampling",
         "One sampler follows the reward's gradient, one drops what falls behind.")  # fmt: skip
    canvas.group("1 Example and prompt", -40, TOP, a - 72, floor, BLUE)
    canvas.group("2 What is good, and who finds it", a - 68, TOP, c - 76, floor, GREEN)
    canvas.group("3 Look", c - 74, TOP, end + 25, floor, VIOLET)
