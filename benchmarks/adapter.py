"""What a latent adapter keeps of retrieval, ReNO and the gate, on the mini world's 16-channel twin."""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lclip import (
    AdapterSettings,
    LatentAdapter,
    LatentCLIP,
    ReNOSettings,
    SafetyJudge,
    SafetyPolicy,
    apply_adapter,
    calibrate,
    encode_pictures,
    reno,
    space_named,
    train_adapter,
)
from lclip.adapters.adapter import AdapterFigures, AdapterShape
from lclip.mini import World, load_twin
from lclip.mini.captions import CaptionReward
from lclip.mini.drawing import render_batch, sample_scenes
from lclip.mini.scenes import Scene
from lclip.mini.twin import TwinDenoiser
from lclip.safety.unreadable import why_unreadable
from lclip.statistics import RESAMPLES, Interval, auc, bootstrap, true_positives, wilson

from .harness import Run, table
from .safety_world import asks_for_harm, is_harmless, scenes_that, truth
from .scenes import (
    WAYS,
    encode_scenes,
    generate,
    hundred_way_groups,
    in_chunks,
    judge_latents,
    noise_for,
    retrieval_hits,
    to_pixels,
    world_for_cpu,
)

NUMBERS = (50, 200, 500, 2000, 5000)
USED = 2000  # pictures of the adapter that ReNO and the gate are measured with
ITERATIONS = 50
CHUNK = 100
TARGET = 0.05  # of the harmless examples may be blocked
EQUAL = (0.05, 0.1)  # shares of the harmless ones at which both sides are compared


@dataclass
class Pair:
    """The world and its twin, with noises that both generators take for the same."""

    world: World
    twin: World

    def noises(self, number: int, seed: int) -> tuple[Tensor, Tensor]:
        noise = noise_for(number, seed)
        rest = torch.randn(number, 16, 8, 8, generator=torch.Generator().manual_seed(seed + 1))
        denoiser = self.twin.denoiser
        assert isinstance(denoiser, TwinDenoiser)
        return noise, denoiser.ways.lift(noise, rest)

    def adapted(self, adapter: LatentAdapter) -> World:
        """The twin with a Latent-CLIP that reads its latents."""
        return replace(self.twin, latent_clip=apply_adapter(self.world.latent_clip, adapter))


def both_worlds() -> Pair:
    world, twin = world_for_cpu(), load_twin()
    twin.vae.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Pair(world, twin)


def trained(run: Run, pair: Pair, number: int) -> LatentAdapter:
    """An adapter from so many drawn pictures, each also mirrored, at the default settings."""
    settings = AdapterSettings(steps=run.choose(AdapterSettings().steps, 4))
    shape = AdapterShape(space_named("mini-16"), space_named("mini"), settings.width, settings.depth)

    def job() -> dict[str, np.ndarray]:
        scenes = sample_scenes(number, 801, split="train")
        pixels = to_pixels(render_batch(scenes))
        start = time.perf_counter()
        pictures = encode_pictures(pixels.split(CHUNK), pair.twin.encode, pair.world.encode)
        encoding = time.perf_counter() - start
        adapter = train_adapter(pair.world.latent_clip, shape.source, pictures, settings)
        assert adapter.figures is not None
        figures = replace(adapter.figures, seconds=adapter.figures.seconds + encoding)
        run.say(f"{number} pictures: {figures.seconds:.0f} s, cosine {figures.cosine:.4f}")
        weights = {name: tensor.numpy() for name, tensor in adapter.state_dict().items()}
        return {**weights, "figures": np.array(astuple(figures))}

    found = run.part(f"adapter {number}", job)
    pictures, held_out, error, cosine, steps, seconds = found.pop("figures").tolist()
    adapter = LatentAdapter(shape)
    adapter.load_state_dict({name: torch.from_numpy(values) for name, values in found.items()})
    adapter.figures = AdapterFigures(int(pictures), int(held_out), error, cosine, int(steps), seconds)
    return adapter.eval().requires_grad_(False)


def adapter(run: Run) -> str:
    """Retrieval against the number of pictures; then ReNO and the gate with one of the adapters."""
    pair = both_worlds()
    numbers = [run.choose(number, min(number, 60)) for number in NUMBERS[: run.choose(5, 2)]]
    adapters = {number: trained(run, pair, number) for number in numbers}
    used = adapters[run.choose(USED, numbers[-1])]
    return "\n\n".join(
        (
            _retrieval(run, pair, adapters),
            _reno(run, pair, used),
            _gate(run, pair, used),
        )
    )


def _retrieval(run: Run, pair: Pair, adapters: dict[int, LatentAdapter]) -> str:
    scenes = hundred_way_groups(run.choose(20, 1), seed=711)
    captions = [scene.caption for scene in scenes]
    noise, lifted = pair.noises(len(scenes), 812)
    with torch.no_grad():
        texts = pair.world.latent_clip.encode_text(captions)
    latents = {
        "encoded": (encode_scenes(pair.world, scenes), encode_scenes(pair.twin, scenes)),
        "generated": (generate(pair.world, captions, noise), generate(pair.twin, captions, lifted)),
    }

    def hits(model: LatentCLIP, z: Tensor) -> np.ndarray:
        return retrieval_hits(in_chunks(model.encode_latents, z), texts).astype(float)

    native = {kind: hits(pair.world.latent_clip, own) for kind, (own, _) in latents.items()}
    rows = [("native, 4 channels", "", "", "", *_cells(native["encoded"]), *_cells(native["generated"]))]
    for number, each in adapters.items():
        model, figures = apply_adapter(pair.world.latent_clip, each), each.figures
        assert figures is not None
        cells: list[str] = []
        for kind, (_, other) in latents.items():
            cells += _cells(hits(model, other), native[kind])
        rows.append(
            (
                f"{number:,} pictures",
                f"{figures.seconds:.0f} s",
                f"{figures.cosine:.3f}",
                f"{100 * figures.latent_error:.1f} %",
                *cells,
            )
        )
    head = (
        "adapter from",
        "time",
        "cosine",
        "latent error",
        "encoded",
        "of native",
        "generated",
        "of native",
    )
    return (
        f"{WAYS}-way retrieval of test captions, n = {len(scenes)} scenes: the 4-channel latents as "
        "they are, and the 16-channel twin's of the same scenes through adapters. Time: encoding with both "
        f"VAEs and training, {torch.get_num_threads()} threads. Cosine and latent error are the held-out "
        "figures that the training itself reports. Generated: one step from paired noises; the twin's own "
        "losses count.\n\n" + table(head, rows)
    )


def _cells(hits: np.ndarray, native: np.ndarray | None = None) -> list[str]:
    share = wilson(int(hits.sum()), len(hits)).percent()
    return [share, "" if native is None else _kept(hits, native).percent()]


def _kept(
    values: np.ndarray, native: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> Interval:
    """Mean over mean, with a paired bootstrap over items, or over whole groups of them."""
    if groups is not None:
        names = np.unique(groups)
        values, native = (np.array([x[groups == n].mean() for n in names]) for x in (values, native))
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    ratios = values[drawn].mean(1) / np.maximum(native[drawn].mean(1), 1e-9)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(float(values.mean() / max(native.mean(), 1e-9)), float(low), float(high), len(values))


def _reno(run: Run, pair: Pair, each: LatentAdapter) -> str:
    prompts, seeds = run.choose(100, 4), 3
    scenes = [s for s in sample_scenes(prompts, 821, split="test") for _ in range(seeds)]
    groups = np.repeat(np.arange(prompts), seeds)
    settings = ReNOSettings(iterations=run.choose(ITERATIONS, 3))
    noises = pair.noises(len(scenes), 822)
    rows, gains = [], []
    for name, world, noise in zip(
        ("native, 4 channels", "twin through the adapter"),
        (pair.world, pair.adapted(each)),
        noises,
        strict=True,
    ):
        parts = [
            run.part(
                f"reno {name} {first}", lambda w=world, n=noise, f=first: _searched(w, scenes, n, f, settings)
            )
            for first in range(0, len(scenes), CHUNK)
        ]
        run.say(f"reno: {name}")
        before, after = (np.concatenate([part[key] for part in parts]) for key in ("before", "after"))
        gains.append(after - before)
        rows.append(
            (name, bootstrap(before, groups).percent(), bootstrap(after, groups).percent(),
             bootstrap(after - before, groups).text(100, 1))
        )  # fmt: skip
    share = (
        f"Gain kept: {_kept(gains[1], gains[0], groups).percent()} of the native one."
        if bootstrap(gains[0], groups).low > 0
        else "The native gain is not told from nothing, so no share of it can be either."
    )
    return (
        f"ReNO, {settings.iterations} iterations at the published settings, from paired noises; {prompts} "
        f"test prompts x {seeds} seeds, intervals over prompts. Oracle: all of the caption is shown. The "
        f"adapter is the one from {run.choose(USED, 0) or 'few'} pictures. "
        f"{share}\n\n" + table(("latents", "before", "after", "gain, points"), rows)
    )


def _searched(
    world: World, scenes: list[Scene], noise: Tensor, first: int, settings: ReNOSettings
) -> dict[str, np.ndarray]:
    some = scenes[first : first + CHUNK]
    captions = [scene.caption for scene in some]
    reward = CaptionReward(world.latent_clip, captions)
    found = reno(world.generator(captions), noise[first : first + CHUNK], reward, settings)
    return {
        name: np.array([float(item.correct) for item in judge_latents(world, latents, some)])
        for name, latents in (("before", found.initial_latents), ("after", found.best_latents))
    }


def _gate(run: Run, pair: Pair, each: LatentAdapter) -> str:
    """Blocked shares at thresholds that were calibrated on each side's own latents of training scenes."""
    number = run.choose(1000, 60)
    examples = sample_scenes(run.choose(3000, 200), 831, split="train")
    scenes = [*scenes_that(asks_for_harm, number, 832), *scenes_that(is_harmless, number, 833)]
    free = SafetyPolicy.preset("mini").changed(model=None, latent_space=None)
    rows = []
    sides = zip(
        ("native, 4 channels", "twin through the adapter"),
        (pair.world, pair.adapted(each)),
        (0, 1),
        strict=True,
    )
    for name, world, side in sides:
        run.say(f"gate: {name}")
        learnt = _with_truth(world, pair, examples, side, 834)
        policy = calibrate(
            free, world.latent_clip, learnt[0][~learnt[1]], learnt[0][learnt[1]], TARGET
        ).policy
        latents, unsafe = _with_truth(world, pair, scenes, side, 836)
        judge = SafetyJudge(policy, world.latent_clip, check_scale=False)
        chances = in_chunks(lambda z, judge=judge: judge.probabilities(z)[:, 0], latents).numpy()
        hit = chances >= policy.thresholds[0]
        high, low = chances[unsafe], chances[~unsafe]
        rows.append(
            (
                name,
                auc(high, low).text(digits=3),
                *(true_positives(high, low, rate).percent() for rate in EQUAL),
                *(wilson(int(hit[part].sum()), int(part.sum())).percent() for part in (unsafe, ~unsafe)),
                int(unsafe.sum()),
                int((~unsafe).sum()),
            )
        )
    return (
        f"The gate, with the preset mini calibrated on each side's own latents of {len(examples)} "
        "training scenes, drawn and generated, so that it blocks "
        f"{100 * TARGET:.0f} % of the harmless ones. Judged on {len(scenes)} test scenes, drawn and "
        "generated; truth is the drawn scene, or what the oracle sees. The two sides are compared where both "
        "block the same share of the harmless ones; what the calibrated thresholds block is beside it.\n\n"
        + table(
            (
                "latents",
                "ROC-AUC",
                *(f"skulls blocked, {100 * rate:.0f} % harmless blocked" for rate in EQUAL),
                "skulls blocked, calibrated",
                "harmless blocked, calibrated",
                "skulls n",
                "harmless n",
            ),
            rows,
        )
    )


def _with_truth(
    world: World, pair: Pair, scenes: list[Scene], side: int, seed: int
) -> tuple[Tensor, np.ndarray]:
    """Latents of scenes, drawn and generated, and whether each shows the unsafe shape."""
    noise = pair.noises(len(scenes), seed)[side]
    made = generate(world, [scene.caption for scene in scenes], noise)
    latents = torch.cat([encode_scenes(world, scenes), made])
    drawn = np.array([scene.content.unsafe for scene in scenes])
    unsafe = np.concatenate([drawn, truth(world, made)]).astype(bool)
    readable = [why is None for why in why_unreadable(latents, world.latent_clip.config)]
    return latents[readable], unsafe[readable]
