"""An adapter that is trained in the canvas, and the mini world's 16-channel twin through it."""

from __future__ import annotations

import threading
import time

import numpy
import pytest
import torch
from PIL import Image

import lclip
from lclip.mini.drawing import render_batch, sample_scenes
from lclip.mini.scenes import UNSAFE_SHAPE
from lclip.mini.world import load_twin, load_world

PICTURES, STEPS = 80, 120
SKULLS = "skull: a skull | a red skull | a blue skull // a circle | a red square | a blue star | a triangle"
POLICY = {
    "preset": "none", "categories": "all", "own_concepts": SKULLS, "allow": "", "strictness": "medium",
    "custom_shift": 0.0, "own_threshold": 0.5, "augmentations": "whole", "policy_json": "",
}  # fmt: skip
SAMPLING = {
    "seed": 5, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
}  # fmt: skip
RENO = {
    **SAMPLING, "iterations": 8, "custom_lr": False, "lr": 5.0, "method": "gradient", "optimizer": "sgd",
    "regularization": 0.01,
    "grad_clip": 0.1, "candidates": 1, "keep": 1, "stop_on_plateau": False, "patience": 1,
    "stop_at_target": False, "target": 0.0, "checkpointing": "auto",
}  # fmt: skip
TRAINING = {
    "latents": "auto", "save_as": "twin", "steps": STEPS, "seed": 0, "folder": "scenes", "custom_side": False,
    "side": 8, "batch": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(host):
    """A folder of drawn scenes in the host's input folder, and a file there that is no picture."""
    folder = host.input / "scenes"
    folder.mkdir()
    drawn = render_batch(sample_scenes(PICTURES, 5, split="train"))
    for index, picture in enumerate(drawn):
        Image.fromarray(picture).save(folder / f"{index:03}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return "scenes"


class Bench:
    """Graphs around the world, its twin, and an adapter between them."""

    def __init__(self, host, graph) -> None:
        self.host, self.graph = host, graph
        self.world = graph.add("LatentCLIP_MiniWorld")
        self.twin = graph.add("LatentCLIP_MiniTwin")

    def train(self, **changes):
        inputs = {"latent_clip": self.world[3], "vae": self.twin[2], "own_vae": self.world[2]}
        return self.graph.add("LatentCLIP_TrainAdapter", **{**inputs, **TRAINING, **changes})

    def adapted(self, training=None, file="(from the wire)"):
        wired = {} if training is None else {"adapter": training[0]}
        return self.graph.add("LatentCLIP_ApplyAdapter", latent_clip=self.world[3], file=file, **wired)

    def prompt(self, text):
        return self.graph.add("CLIPTextEncode", clip=self.twin[1], text=text)[0]

    def empty(self, batch=4):
        return self.graph.add("EmptyLatentImage", width=64, height=64, batch_size=batch)[0]

    def sampled(self, text, batch=4, model=None, **changes):
        return self.graph.add(
            "KSampler", model=model or self.twin[0], positive=self.prompt(text), negative=self.prompt(""),
            latent_image=self.empty(batch), **{**SAMPLING, **changes},
        )[0]  # fmt: skip

    def dump(self, latent, name):
        return self.graph.add("Probe_DumpLatent", latent=latent, name=name)

    def values(self, socket):
        return self.graph.add("Probe_Values", value=socket)

    def run(self):
        return self.host.run(self.graph).require_ok()

    def error(self):
        return self.host.run(self.graph).error

    def dumped(self, name):
        with numpy.load(self.host.output / f"{name}.npz") as arrays:
            return torch.from_numpy(arrays["samples"])


@pytest.fixture
def bench(host, graph, scenes):
    return Bench(host, graph)


@pytest.fixture(scope="module")
def file(host, scenes, new_graph):
    """The name of an adapter that was trained in the canvas."""
    bench = Bench(host, new_graph())
    training = bench.train(save_as="shared")
    report = bench.values(training[3])
    (text,) = bench.run().values(report)
    assert "shared" in text
    return text.rsplit("latent_clip_adapters/", 1)[1].strip()


def folder(host):
    return host.base / "models" / "latent_clip_adapters"


def test_training_reports_held_out_figures_and_saves_a_file_that_the_library_reads(bench):
    training = bench.train()
    shown = [bench.values(training[socket]) for socket in (1, 2, 3)]
    result = bench.run()
    (cosine,), (error,), (report,) = (result.values(node) for node in shown)
    assert cosine > 0.85 and 0 < error < 0.2
    assert f"Trained on {PICTURES} pictures, {STEPS} steps" in report and f"{cosine:.4f}" in report
    saved = lclip.load_adapter(folder(bench.host) / "twin.safetensors")
    assert (saved.source.name, saved.target.name) == ("mini-16", "mini")
    assert saved.figures.pictures == PICTURES and saved.figures.cosine == pytest.approx(cosine)
    assert result.images(training), "no picture of held-out latents on the node"


def test_score_reads_the_twin_as_the_library_does_and_the_heatmap_covers_it(bench, file):
    adapted = bench.adapted(file=file)
    latent = bench.sampled("a large red circle on a white ground")
    text = "a red circle"
    scored = bench.graph.add("LatentCLIP_Score", latent_clip=adapted[0], latent=latent, text=text)
    heat = bench.graph.add("LatentCLIP_Heatmap", latent_clip=adapted[0], latent=latent, text=text)
    scores = bench.values(scored[2])
    bench.graph.add("Probe_DumpTensor", tensor=heat[0], name="heat")
    bench.dump(latent, "twin")
    result = bench.run()
    z = bench.dumped("twin")
    assert z.shape == (4, 16, 8, 8)
    model = lclip.apply_adapter(load_world().latent_clip, lclip.load_adapter(folder(bench.host) / file))
    wanted = lclip.similarity(model, z, text)[:, 0].tolist()
    assert result.values(scores) == pytest.approx(wanted, abs=1e-4)
    assert numpy.load(bench.host.output / "heat.npy").shape == (4, 64, 64)


def test_the_twins_stock_step_is_the_librarys(bench):
    bench.dump(bench.sampled("a blue star on a grey ground", batch=3, seed=77), "step")
    bench.run()
    noise = torch.randn((3, 16, 8, 8), generator=torch.Generator().manual_seed(77))
    with torch.no_grad():
        wanted = load_twin().generate(["a blue star on a grey ground"], noise)
    torch.testing.assert_close(bench.dumped("step"), wanted, atol=2e-3, rtol=0)


def test_reno_improves_the_twins_pictures_by_a_reward_through_the_adapter(bench, file):
    adapted = bench.adapted(file=file)
    text = "a yellow cross above a green square on a black ground"
    reward = bench.graph.add("LatentCLIP_TextReward", latent_clip=adapted[0], text=text, weight=1.0)
    found = bench.graph.add(
        "LatentCLIP_ReNO", model=bench.twin[0], positive=bench.prompt(text), negative=bench.prompt(""),
        latent_image=bench.empty(), reward=reward[0], **RENO,
    )  # fmt: skip
    bench.dump(found[0], "best")
    bench.dump(found[1], "initial")
    bench.run()
    model = lclip.apply_adapter(load_world().latent_clip, lclip.load_adapter(folder(bench.host) / file))
    before, after = (lclip.similarity(model, bench.dumped(name), text).mean() for name in ("initial", "best"))
    assert after > before + 0.004


def test_reno_improves_the_twins_pictures_by_a_reward_through_a_bridge_of_both_vaes(bench):
    text = "a yellow cross above a green square on a black ground"
    loaded = [bench.graph.add("Probe_LoadedVAE", vae=each[2])[0] for each in (bench.twin, bench.world)]
    vaes = {"vae": loaded[0], "own_vae": loaded[1], "latents": "auto"}
    bridged = bench.graph.add("LatentCLIP_Bridge", latent_clip=bench.world[3], **vaes)
    reward = bench.graph.add("LatentCLIP_TextReward", latent_clip=bridged[0], text=text, weight=1.0)
    found = bench.graph.add(
        "LatentCLIP_ReNO", model=bench.twin[0], positive=bench.prompt(text), negative=bench.prompt(""),
        latent_image=bench.empty(), reward=reward[0], **RENO,
    )  # fmt: skip
    scored = bench.graph.add("LatentCLIP_Score", latent_clip=bridged[0], latent=found[0], text=text)
    scores = bench.values(scored[2])
    bench.dump(found[0], "best")
    bench.dump(found[1], "initial")
    result = bench.run()
    world, twin = load_world(), load_twin()
    model = lclip.apply_adapter(
        world.latent_clip, lclip.bridge(twin.decode, world.encode, "mini-16", "mini", 8)
    )
    before, after = (lclip.similarity(model, bench.dumped(name), text)[:, 0] for name in ("initial", "best"))
    assert result.values(scores) == pytest.approx(after.tolist(), abs=1e-4)
    assert after.mean() > before.mean() + 0.004 and bool((after > before).all())


def test_guidance_moves_the_twins_pictures(bench, file):
    adapted = bench.adapted(file=file)
    text = "a yellow cross on a black ground"
    reward = bench.graph.add("LatentCLIP_TextReward", latent_clip=adapted[0], text=text, weight=1.0)
    guided = bench.graph.add(
        "LatentCLIP_Guidance", model=bench.twin[0], reward=reward[0], strength=0.3, start=0.0, end=1.0
    )
    for name, model in (("plain", bench.twin[0]), ("guided", guided[0])):
        bench.dump(bench.sampled("a cross", steps=6, model=model), name)
    bench.run()
    model = lclip.apply_adapter(load_world().latent_clip, lclip.load_adapter(folder(bench.host) / file))
    before, after = (lclip.similarity(model, bench.dumped(name), text).mean() for name in ("plain", "guided"))
    assert after > before


def test_the_gate_blocks_skulls_and_lets_others_pass(bench, file):
    """Drawn pictures through the twin's VAE: what they show is known."""
    drawn = sample_scenes(400, 31, split="dev")
    kinds = [[s for s in drawn if s.content.unsafe is wanted][:20] for wanted in (True, False)]
    assert all(UNSAFE_SHAPE in scene.content.shapes for scene in kinds[0])
    counts = []
    for name, group in zip(("unsafe", "harmless"), kinds, strict=True):
        pixels = torch.from_numpy(render_batch(group)).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            z = load_twin().encode(pixels)
        numpy.savez(bench.host.input / f"{name}.npz", allow_pickle=False, samples=z.numpy())
        latent = bench.graph.add("Probe_ReadLatent", name=name)[0]
        policy = bench.graph.add(
            "LatentCLIP_SafetyPolicy",
            latent_clip=bench.adapted(file=file)[0],
            **{**POLICY, "own_threshold": 0.1},
        )
        gate = bench.graph.add(
            "LatentCLIP_SafetyGate", policy=policy[0], latent=latent, action="separate", report_as="text",
            repair_iterations=2, seed=1, steps=1, cfg=1.0, sampler_name="euler", scheduler="simple",
        )  # fmt: skip
        counts.append(bench.values(gate[4]))
    result = bench.run()
    unsafe, harmless = (result.values(node)[0] for node in counts)
    assert unsafe >= 10 and harmless <= 4 and unsafe - harmless >= 8, (unsafe, harmless)


@pytest.mark.parametrize("what", ["score", "reno", "vae"])
def test_without_an_adapter_the_twin_is_refused_by_name(bench, what):
    if what == "score":
        node = bench.graph.add(
            "LatentCLIP_Score", latent_clip=bench.world[3], latent=bench.sampled("a red circle"), text="red",
        )  # fmt: skip
        bench.values(node[1])
        wanted = ("16 channels", "the mini world's latents")
    elif what == "reno":
        reward = bench.graph.add("LatentCLIP_TextReward", latent_clip=bench.world[3], text="red", weight=1.0)
        found = bench.graph.add(
            "LatentCLIP_ReNO", model=bench.twin[0], positive=bench.prompt("red"), negative=bench.prompt(""),
            latent_image=bench.empty(), reward=reward[0], **RENO,
        )  # fmt: skip
        bench.dump(found[0], "refused")
        wanted = ("reads the mini world's latents", "makes the mini world's 16-channel latents")
    else:
        bench.train(own_vae=bench.twin[2])
        wanted = ("the mini world's latents", "own_vae makes the mini world's 16-channel latents")
    error = bench.error()
    assert all(part in error for part in wanted), error


def cancelled_after(bench, seconds):
    """Queue the graph, press the cancel button that long after it has begun; its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(bench.host.run(bench.graph)))
    thread.start()
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not bench.host.get("/queue")["queue_running"]:
        time.sleep(0.1)
    time.sleep(seconds)
    while thread.is_alive() and time.monotonic() < deadline:
        bench.host.post("/interrupt", {})
        time.sleep(1)
    thread.join()
    return results[0]


def test_cancelling_keeps_the_best_so_far_and_breaks_nothing(bench, new_graph):
    """The cancel button half way: the file is there, and the same models sample and search afterwards."""
    bench.train(save_as="cancelled", steps=100_000)
    for seconds in (15, 60, 180):  # a slow machine may not have begun with the first step
        assert not cancelled_after(bench, seconds).ok
        if (folder(bench.host) / "cancelled.safetensors").exists():
            break
    begun = bench.host.base / "server.log"
    saved = lclip.load_adapter(folder(bench.host) / "cancelled.safetensors")
    assert 0 < saved.figures.steps < 100_000 and "cancelled.safetensors" in begun.read_text(errors="replace")
    again = Bench(bench.host, new_graph())
    adapted = again.adapted(file="cancelled.safetensors")
    reward = again.graph.add("LatentCLIP_TextReward", latent_clip=adapted[0], text="a red circle", weight=1.0)
    found = again.graph.add(
        "LatentCLIP_ReNO", model=again.twin[0], positive=again.prompt("a circle"), negative=again.prompt(""),
        latent_image=again.empty(), reward=reward[0], **{**RENO, "iterations": 3},
    )  # fmt: skip
    again.dump(found[0], "after")
    again.run()


def images(bench, name, pixels):
    numpy.savez(bench.host.input / f"{name}.npz", allow_pickle=False, samples=pixels)
    return bench.graph.add("Probe_Image", name=name)[0]


def test_an_image_batch_serves_as_well_as_a_folder(bench):
    pixels = render_batch(sample_scenes(24, 8)).astype(numpy.float32) / 255
    training = bench.train(folder="", images=images(bench, "batch", pixels), steps=20, save_as="batch")
    report = bench.values(training[3])
    assert "Trained on 24 pictures, 20 steps" in bench.run().values(report)[0]


BAD_PICTURES = {
    "one": (
        numpy.random.default_rng(0).random((1, 64, 64, 3), dtype=numpy.float32),
        "1 picture to learn from",
    ),
    "equal": (numpy.full((12, 64, 64, 3), 0.3, dtype=numpy.float32), "all 12 pictures give the same"),
    "small": (numpy.zeros((12, 5, 7, 3), dtype=numpy.float32), "7x5 pixels; expected at least 8x8"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_pictures_that_nothing_can_be_learnt_from(bench, case):
    pixels, text = BAD_PICTURES[case]
    bench.train(folder="", images=images(bench, f"bad-{case}", pixels), save_as=f"bad-{case}")
    assert text in bench.error()
    assert not (folder(bench.host) / f"bad-{case}.safetensors").exists()


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"folder": ""}, "There are no pictures to learn from"),
        ({"folder": "../../elsewhere"}, "expected one in ComfyUI's input folder"),
        ({"folder": "nowhere"}, "there is no folder"),
        ({"latents": "flux"}, "the other VAE makes the mini world's 16-channel latents"),
        ({"save_as": "../escape"}, "expected one like 'mine'"),
    ],
)
def test_what_is_asked_for_wrongly(bench, changes, text):
    bench.train(**changes)
    assert text in bench.error()


def test_files_that_are_no_adapters(bench, file):
    newer = folder(bench.host) / "newer.safetensors"
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(folder(bench.host) / file, framework="pt") as opened:
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        save_file(weights, newer, {**opened.metadata(), "version": "99"})
    bench.values(bench.adapted(file="newer.safetensors")[1])
    error = bench.error()
    assert "of version 99" in error and "update" in error


def test_no_adapter_and_two_are_refused(bench, file):
    bench.values(bench.adapted()[1])
    assert "There is no adapter, or there are two" in bench.error()


def files(host, name):
    return sorted(path.name for path in folder(host).glob(f"{name}*"))


def test_a_second_queue_does_not_train_again_also_with_a_wired_folder(bench):
    wired = bench.graph.add("Probe_Text", text="scenes")
    training = bench.train(folder=wired[0], save_as="once", steps=20)
    assert training in bench.run().executed
    assert bench.run().executed == set()
    assert files(bench.host, "once") == ["once.safetensors"]


def test_an_adapter_from_the_same_inputs_is_taken_and_not_trained_again(bench, new_graph):
    """As after a restart: nothing is in the host's cache, and the file alone knows what it came from."""
    training = bench.train(save_as="again", steps=20)
    shown = [bench.values(training[socket]) for socket in (1, 2, 3)]
    first = bench.run()
    path = folder(bench.host) / "again.safetensors"
    kept = path.read_bytes()
    bench.host.post("/free", {"unload_models": True, "free_memory": True})
    for _ in range(60):  # freed when the worker wakes up
        second = bench.run()
        if training in second.executed:
            break
        time.sleep(0.5)
    assert training in second.executed, "the cache was never freed"
    assert files(bench.host, "again") == ["again.safetensors"] and path.read_bytes() == kept
    assert [first.values(node) for node in shown[:2]] == [second.values(node) for node in shown[:2]]
    assert "trained from the same inputs before" in second.values(shown[2])[0]

    changed = Bench(bench.host, new_graph())
    changed.train(save_as="again", steps=20, seed=1)
    changed.run()
    assert files(bench.host, "again") == ["again.safetensors", "again_2.safetensors"]
    assert path.read_bytes() == kept


def test_the_side_counts_where_its_switch_is_on_and_only_there(bench, host, new_graph):
    """By the files: what was trained from the same pictures before is taken from there."""
    for changes, number in (({}, 1), ({"side": 16}, 1), ({"side": 32, "custom_side": True}, 2)):
        cut = Bench(host, new_graph())
        cut.train(save_as="side", steps=20, **changes)
        cut.run()
        assert len(files(host, "side")) == number, changes


def test_a_name_that_cannot_be_written_is_said_before_the_training(bench, host):
    place = host.base / "models" / "latent_clip_adapters"
    place.mkdir(parents=True, exist_ok=True)
    (place / "blocked").write_text("a file where a folder is wanted")
    bench.train(save_as="blocked/mine", steps=20)
    assert "cannot be written" in (error := bench.error()) and "Traceback" not in error


def test_other_pictures_or_another_vae_are_other_inputs(bench, host, new_graph):
    bench.train(save_as="inputs", steps=20)
    bench.run()
    extra = host.input / "scenes-more"
    extra.mkdir(exist_ok=True)
    for index, path in enumerate(sorted((host.input / "scenes").glob("0*.png"))):
        (extra / f"{index:03}.png").write_bytes(path.read_bytes())  # the same pictures, in another folder
    moved = Bench(host, new_graph())
    moved.train(save_as="inputs", steps=20, folder="scenes-more")
    moved.run()
    assert files(host, "inputs") == ["inputs.safetensors", "inputs_2.safetensors"]  # without the broken one
    (extra / "000.png").write_bytes((extra / "001.png").read_bytes())
    swapped = Bench(host, new_graph())
    swapped.train(save_as="inputs", steps=20, folder="scenes-more")
    swapped.run()
    assert files(host, "inputs") == [f"inputs{end}.safetensors" for end in ("", "_2", "_3")]


def test_a_wired_file_is_not_read_again(bench, file):
    wired = bench.graph.add("Probe_Text", text=file)
    report = bench.values(bench.adapted(file=wired[0])[1])
    assert report in bench.run().executed
    assert bench.run().executed == set()
