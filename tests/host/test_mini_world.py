"""The mini world under the host's stock nodes: sampled, scored, chosen, decoded, judged by the oracle."""

from __future__ import annotations

import numpy
import pytest
import torch
from agreement import near
from PIL import Image

from lclip.mini.oracle import judge
from lclip.mini.scenes import Content, caption, random_content
from lclip.mini.world import load_world

BATCH, PROMPTS = 12, 6


@pytest.fixture(scope="module")
def world():
    return load_world()


def sampled(graph, loader, prompt: str, seed: int = 5, batch: int = BATCH, steps: int = 4, **changes):
    """Stock nodes from prompt to latents."""
    positive = graph.add("CLIPTextEncode", clip=loader[1], text=prompt)
    negative = graph.add("CLIPTextEncode", clip=loader[1], text="")
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=batch)
    inputs = {
        "model": loader[0], "positive": positive[0], "negative": negative[0], "latent_image": empty[0],
        "seed": seed, "steps": steps, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
        "denoise": 1.0,
    }  # fmt: skip
    return graph.add("KSampler", **{**inputs, **changes})


def pictures(result, node) -> list[numpy.ndarray]:
    return [numpy.asarray(Image.open(path).convert("RGB")) for path in result.images(node)]


def dumped(host, name: str) -> torch.Tensor:
    with numpy.load(host.output / f"{name}.npz") as arrays:
        return torch.from_numpy(arrays["samples"])


@pytest.fixture(scope="module")
def contents():
    """Prompts whose pictures are not all right, so that there is something to choose."""
    rng = numpy.random.default_rng(11)
    return [random_content(rng, "dev") for _ in range(PROMPTS)]


def test_the_chosen_pictures_have_the_wanted_colour_more_often_than_the_others(host, graph):
    """The main job: KSampler -> Score -> Select -> VAE Decode -> Save Image, judged without any CLIP.

    The prompt leaves the colour to the noise; the choice asks for one.
    """
    loader = graph.add("LatentCLIP_MiniWorld")
    wanted, saved = [], []
    for shape in ("circle", "square", "triangle"):
        latent = sampled(graph, loader, f"a large {shape} on a white ground", steps=1)
        for colour in ("red", "blue", "yellow"):
            content = Content("single", (shape,), (colour,), "white", "large")
            text = caption(content)
            scored = graph.add("LatentCLIP_Score", latent_clip=loader[3], latent=latent[0], text=text)
            reward = graph.add("LatentCLIP_TextReward", latent_clip=loader[3], text=text, weight=1.0)
            chosen = graph.add("LatentCLIP_Select", latent=scored[0], reward=reward[0], k=3)
            decoded = [graph.add("VAEDecode", samples=chosen[i], vae=loader[2])[0] for i in (0, 1)]
            saved.append([graph.add("SaveImage", images=image, filename_prefix="mini") for image in decoded])
            wanted.append(content)
    result = host.run(graph).require_ok()
    best, rest = [], []
    for content, nodes in zip(wanted, saved, strict=True):
        for node, kept, number in zip(nodes, (best, rest), (3, BATCH - 3), strict=True):
            found = pictures(result, node)
            assert len(found) == number and all(picture.shape == (64, 64, 3) for picture in found)
            kept += [judge(picture, content).parts["colour"] for picture in found]
    assert numpy.mean(best) > numpy.mean(rest) + 0.4, (numpy.mean(best), numpy.mean(rest))


def test_one_stock_step_is_the_librarys_one_step(host, graph, world, contents):
    """Same noise, same prompt: the host's sampler and the library's Euler step meet at the same latents."""
    prompt = caption(contents[0])
    loader = graph.add("LatentCLIP_MiniWorld")
    graph.add(
        "Probe_DumpLatent", latent=sampled(graph, loader, prompt, seed=77, batch=3, steps=1)[0], name="one"
    )
    graph.add(
        "Probe_DumpLatent", latent=sampled(graph, loader, prompt, seed=77, batch=3, steps=5)[0], name="five"
    )
    host.run(graph).require_ok()
    noise = torch.randn((3, 4, 8, 8), generator=torch.Generator().manual_seed(77))
    for name, steps in (("one", 1), ("five", 5)):
        with torch.no_grad():
            wanted = world.generate([prompt], noise, steps)
        # Timesteps pass through the host in thousandths, and scaling happens in another order.
        torch.testing.assert_close(dumped(host, name), wanted, atol=2e-3, rtol=0)


def test_the_vae_is_the_librarys_both_ways(host, graph, world):
    pixels = torch.rand(2, 72, 96, 3, generator=torch.Generator().manual_seed(1))
    Image.fromarray((pixels[0].numpy() * 255).round().astype(numpy.uint8)).save(host.input / "picture.png")
    loader = graph.add("LatentCLIP_MiniWorld")
    picture = graph.add("LoadImage", image="picture.png")
    encoded = graph.add("VAEEncode", pixels=picture[0], vae=loader[2])
    graph.add("Probe_DumpLatent", latent=encoded[0], name="encoded")
    graph.add(
        "Probe_DumpTensor",
        tensor=graph.add("VAEDecode", samples=encoded[0], vae=loader[2])[0],
        name="decoded",
    )
    host.run(graph).require_ok()
    stored = torch.from_numpy(
        numpy.asarray(Image.open(host.input / "picture.png"), dtype=numpy.float32) / 255
    )
    with torch.no_grad():
        latents = world.encode(stored.movedim(-1, 0)[None])
        decoded = world.decode(latents).movedim(1, -1)
    near(host, dumped(host, "encoded"), latents, atol=1e-4, rtol=0)
    near(host, torch.from_numpy(numpy.load(host.output / "decoded.npy")), decoded, atol=1e-4, rtol=0)


def test_custom_sampling_equals_ksampler(host, graph, contents):
    loader = graph.add("LatentCLIP_MiniWorld")
    stock = sampled(graph, loader, caption(contents[1]), batch=2, cfg=2.0)
    graph.add("Probe_DumpLatent", latent=stock[0], name="stock")
    widgets = graph.nodes[stock]["inputs"]
    guider = graph.add(
        "CFGGuider", model=loader[0], positive=widgets["positive"], negative=widgets["negative"], cfg=2.0
    )
    custom = graph.add(
        "SamplerCustomAdvanced", guider=guider[0], latent_image=widgets["latent_image"],
        noise=graph.add("RandomNoise", noise_seed=5)[0],
        sampler=graph.add("KSamplerSelect", sampler_name="euler")[0],
        sigmas=graph.add("BasicScheduler", model=loader[0], scheduler="simple", steps=4, denoise=1.0)[0],
    )  # fmt: skip
    graph.add("Probe_DumpLatent", latent=custom[0], name="custom")
    host.run(graph).require_ok()
    torch.testing.assert_close(dumped(host, "custom"), dumped(host, "stock"), atol=0, rtol=0)
    assert dumped(host, "stock").std() > 1  # raw scale


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler_name": "dpmpp_2m", "scheduler": "karras"},
        {"sampler_name": "euler_ancestral", "steps": 3},
        {"denoise": 0.5},
        {"cfg": 3.0},
    ],
    ids=str,
)
def test_other_samplers_and_settings_run(host, graph, changes):
    loader = graph.add("LatentCLIP_MiniWorld")
    latent = sampled(graph, loader, "a red circle", batch=2, **changes)
    graph.add("Probe_DumpLatent", latent=latent[0], name="other")
    host.run(graph).require_ok()
    samples = dumped(host, "other")
    assert samples.shape == (2, 4, 8, 8) and torch.isfinite(samples).all() and samples.std() > 0.5


def test_noise_masks_run_and_other_sizes_are_refused_by_name(host, graph):
    loader = graph.add("LatentCLIP_MiniWorld")
    latent = sampled(graph, loader, "two blue squares", batch=1)
    mask = graph.add("SolidMask", value=1.0, width=64, height=64)
    masked = graph.add("SetLatentNoiseMask", samples=latent[0], mask=mask[0])
    again = graph.add(
        "KSampler", **{**graph.nodes[latent]["inputs"], "latent_image": masked[0], "denoise": 0.6}
    )
    heat = graph.add("LatentCLIP_Heatmap", latent_clip=loader[3], latent=again[0], text="a blue square")
    graph.add("Probe_DumpTensor", tensor=heat[1], name="overlay")
    graph.add(
        "Probe_DumpTensor", tensor=graph.add("VAEDecode", samples=again[0], vae=loader[2])[0], name="picture"
    )
    host.run(graph).require_ok()
    for name in ("overlay", "picture"):
        assert numpy.load(host.output / f"{name}.npy").shape == (1, 64, 64, 3)
    graph.nodes[graph.nodes[latent]["inputs"]["latent_image"][0]]["inputs"].update(width=96)
    with pytest.raises(AssertionError, match="64x64 pixels"):
        host.run(graph).require_ok()


def test_the_same_seed_gives_the_same_picks(host, graph, contents):
    def job(seed):
        loader = graph.add("LatentCLIP_MiniWorld")
        latent = sampled(graph, loader, caption(contents[2]), seed=seed, steps=2)
        reward = graph.add(
            "LatentCLIP_TextReward", latent_clip=loader[3], text=caption(contents[2]), weight=1.0
        )
        return graph.add("LatentCLIP_Select", latent=latent[0], reward=reward[0], k=4)

    probes = [graph.add("Probe_Values", value=job(seed)[2]) for seed in (1, 1, 2)]
    first, same, other = (host.run(graph).require_ok().values(probe) for probe in probes)
    assert first == same and first != other
