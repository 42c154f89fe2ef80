"""The pack on SDXL at full size in a real ComfyUI: does it agree with the host, what fits, what it costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lclip import LatentCLIP
from lclip.checkpoints.checkpoint import save_checkpoint

from . import shapes
from .harness import Run, Skipped, duration, ratio, table
from .hosts import checkouts_or_skip, version_of
from .server import Graph, Host, Node

UNET = "random_sdxl.safetensors"
WITHOUT_DYNAMIC = "--disable-dynamic-vram"
SIDES = (512, 1024)  # of plans: free memory in GiB (0: all), side in pixels, checkpointing, Latent-CLIP
PLANS = (
    *((0.0, side, "auto", "B/8") for side in SIDES),
    (0.0, 512, "auto", "B/4-plus"),
    *((0.0, side, "on", "B/8") for side in SIDES),
    *((room, side, "auto", "B/8") for room in (12.0, 8.0) for side in SIDES),
)
GUIDED = ((512, "B/8"), (1024, "B/8"), (1024, "B/4-plus"))
# Of other ways to start than the first: what could differ there
FEWER_PLANS, FEWER_GUIDED = (*PLANS[:2], PLANS[-1]), GUIDED[:1]
RENDERS, STEPS, ROUNDS = 6, 8, 3
TIGHT = 6.5  # GiB: the UNet fits, a Latent-CLIP beside it does not


@dataclass(frozen=True)
class Way:
    """One way to start one host."""

    checkout: Path
    arguments: tuple[str, ...]
    plans: tuple[tuple[float, int, str, str], ...] = FEWER_PLANS
    guided: tuple[tuple[int, str], ...] = FEWER_GUIDED

    @property
    def name(self) -> str:
        return " ".join((f"ComfyUI {version_of(self.checkout)}", *self.arguments))


def full_size(run: Run) -> str:
    """ReNO, guidance and a score around SDXL's UNet with random fp16 weights, in every host and way to start.

    Raises Skipped without a GPU or a host.
    """
    if torch.device(run.device).type != "cuda":
        raise Skipped("it needs a GPU: --device cuda")
    ways = list(_ways(checkouts_or_skip()))
    ways[0] = replace(ways[0], plans=PLANS, guided=GUIDED)
    searches, guided, evicted, captured = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):  # keeps what was measured
        for number, way in enumerate(ways):
            run.say(way.name)
            host = Host(way.checkout, Path(folder) / str(number), arguments=way.arguments)
            bench = _Bench(host, Path(folder))
            try:
                bench.start()
                if host.on_cpu:
                    raise Skipped("ComfyUI runs on its CPU: set COMFYUI_ARGS to nothing")
                guided.extend((way.name, *row) for row in bench.guidance(run, way.guided))
                evicted.append((way.name, bench.survives_eviction()))
                searches.extend((way.name, *row) for row in bench.searches(run, way.plans))
            finally:
                bench.host.stop()
                if host.has_logged("runs as CUDA graphs"):
                    captured.append(way.name)
    missing = [
        f"{way.name}: {what}, {have} of {wanted}"
        for way in ways
        for what, rows, wanted in (
            ("ReNO", searches, len(way.plans)),
            ("guidance", guided, len(way.guided)),
            ("eviction", evicted, 1),
        )
        if (have := sum(row[0] == way.name for row in rows)) < wanted
    ]
    return _write(searches, guided, evicted, captured, missing)


def _ways(checkouts: list[Path]) -> Iterator[Way]:
    for checkout in checkouts:
        yield Way(checkout, ())
        if WITHOUT_DYNAMIC in (checkout / "comfy" / "cli_args.py").read_text(encoding="utf-8"):
            yield Way(checkout, (WITHOUT_DYNAMIC,))


def _file_of(clip: str) -> str:
    return f"{clip.replace('/', '-')}.safetensors"


class _Bench:
    """One running host with SDXL's UNet, and two Latent-CLIPs, of random weights."""

    def __init__(self, host: Host, shared: Path) -> None:
        self.host, self.shared = host, shared
        self.taken = 0  # bytes of the card that are held back

    def start(self) -> None:
        """Start it; the files are written once and shared by all hosts."""
        unet = self.host.base / "models" / "diffusion_models" / UNET
        unet.parent.mkdir(parents=True)
        if (self.shared / UNET).exists():
            unet.symlink_to(self.shared / UNET)
        self.host.models.mkdir(parents=True, exist_ok=True)
        for name, config in shapes.LATENT_CLIPS.items():
            file = self.shared / _file_of(name)
            if not file.exists():
                save_checkpoint(LatentCLIP(config), file, torch.float16)
            (self.host.models / file.name).symlink_to(file)
        self.host.start()
        if not unet.exists():
            graph = Graph()
            graph.add("Probe_WriteSDXL", name=UNET)
            self.host.run(graph).require_ok()
            unet.rename(self.shared / UNET)
            unet.symlink_to(self.shared / UNET)

    def leave_room(self, gibibytes: float) -> None:
        """Unload all, and take the card's memory down to this."""
        graph = Graph()
        node = graph.add("Probe_Room", gibibytes=gibibytes)
        (self.taken,) = self.host.run(graph).require_ok().values(node)

    def searches(self, run: Run, plans: Sequence[tuple]) -> Iterator[tuple[str, ...]]:
        """Rows: what was asked, time per render, peak memory, whether the first render is the stock one."""
        before = None
        for room, side, checkpointing, clip in plans[: run.choose(len(plans), 1)]:
            if room != before:
                self.leave_room(room)
                before = room
            row = self._search(side, checkpointing, clip)
            run.say(f"{room} GiB, {side}, {checkpointing}, {clip}: {row}")
            yield (f"{room:.0f} GiB" if room else "the whole card", f"{side}", checkpointing, clip, *row)

    def _search(self, side: int, checkpointing: str, clip: str) -> tuple[str, ...]:
        seconds, peak, lean = [], 0.0, False
        stock = _Scene(clip)
        stock.dump(stock.ksampler(stock.empty(side)), "stock")
        self.host.run(stock.graph).require_ok()
        for seed in (6, 7, 5):  # the first one loads, and does not count; the last one is the stock render's
            scene = _Scene(clip)
            start = scene.meter(scene.empty(side))
            found = scene.reno(start[0], seed, checkpointing)
            end = scene.meter(found[0])
            scene.dump(found[1], "initial")
            size = self.host.log.stat().st_size
            result = self.host.run(scene.graph)
            if not result.ok:
                return ("refused: " + result.error[:120], "", "", "")
            log = self.host.log.read_bytes()[size:].decode(errors="replace")
            lean = "with activation checkpointing" in log
            (seen,) = result.values(end)
            seconds.append(seen["seconds"] / RENDERS)
            peak = max(peak, seen["peak"] - self.taken)
        return (
            "with checkpointing" if lean else "without",
            f"{1000 * min(seconds[1:]):.0f} ms",
            f"{peak / 2**30:.1f} GiB",
            self._difference(),
        )

    def _difference(self) -> str:
        first, stock = (self._samples(name).astype(np.float64) for name in ("initial", "stock"))
        off = np.linalg.norm(first - stock) / np.linalg.norm(stock)
        return f"{off:.1e}" if off else "none"

    def guidance(self, run: Run, plans: Sequence[tuple[int, str]]) -> Iterator[tuple[str, ...]]:
        """Rows: what guidance adds to the time of one unguided step."""
        self.leave_room(0.0)
        for side, clip in plans:
            seconds: dict[bool, list[float]] = {False: [], True: []}
            for turn in range(ROUNDS + 1):
                for guided in (False, True):
                    scene = _Scene(clip)
                    start = scene.meter(scene.empty(side))
                    model = scene.guided() if guided else scene.model
                    end = scene.meter(scene.ksampler(start[0], model=model, seed=turn, steps=STEPS))
                    (seen,) = self.host.run(scene.graph).require_ok().values(end)
                    seconds[guided] += [seen["seconds"] / STEPS] if turn else []
            added = ratio(seconds[True], seconds[False])
            times = (duration(seconds[False]), duration(seconds[True]))
            run.say(f"{side} {clip}: {times}")
            yield (f"{side}", clip, *times, added.text(digits=3))

    def survives_eviction(self) -> str:
        """Whether scores and renders are the same after the models had to make room for each other."""
        seen = []
        for room in (0.0, TIGHT, 0.0):
            self.leave_room(room)
            for seed in (1, 2):
                scene = _Scene("B/8")
                render = scene.ksampler(scene.meter(scene.empty(512))[0], seed=seed)
                scores = scene.graph.add(
                    "LatentCLIP_Score", latent_clip=scene.clip, latent=render, text="a red circle",
                    size_rule="resize",
                )  # fmt: skip
                shown = scene.graph.add("Probe_Values", value=scores[2])
                scene.dump(render, "render")
                result = self.host.run(scene.graph).require_ok()
                seen.append((result.values(shown), self._samples("render").tobytes()))
        return "yes" if seen[0:2] == seen[2:4] == seen[4:6] else "NO"

    def _samples(self, name: str) -> np.ndarray:
        with np.load(self.host.output / f"{name}.npz") as arrays:
            return arrays["samples"]


class _Scene:
    """A workflow around SDXL's UNet."""

    def __init__(self, clip: str) -> None:
        self.graph = Graph()
        self.model = self.graph.add("UNETLoader", unet_name=UNET, weight_dtype="default")[0]
        self.clip = self.graph.add("LatentCLIP_Load", file=_file_of(clip), dtype="auto")[0]
        words = {"batch": 1, "tokens": 77, "width": 2048}
        self.positive = self.graph.add("Probe_Conditioning", seed=1, **words)[0]
        self.negative = self.graph.add("Probe_Conditioning", seed=2, **words)[0]

    def empty(self, side: int) -> list[Any]:
        return self.graph.add("EmptyLatentImage", width=side, height=side, batch_size=1)[0]

    def meter(self, value: list[Any]) -> Node:
        return self.graph.add("Probe_Meter", value=value)

    def dump(self, latent: list[Any], name: str) -> None:
        self.graph.add("Probe_DumpLatent", latent=latent, name=name)

    def reward(self) -> list[Any]:
        return self.graph.add(
            "LatentCLIP_TextReward", latent_clip=self.clip, text="a red circle", weight=1.0
        )[0]

    def guided(self) -> list[Any]:
        return self.graph.add(
            "LatentCLIP_Guidance", model=self.model, reward=self.reward(), strength=0.1, start=0.0, end=1.0
        )[0]

    def ksampler(
        self, latent: list[Any], model: list[Any] | None = None, seed: int = 5, steps: int = 1
    ) -> list[Any]:
        common = self._sampling(model or self.model, seed, steps)
        return self.graph.add("KSampler", latent_image=latent, **common)[0]

    def reno(self, latent: list[Any], seed: int, checkpointing: str) -> Node:
        return self.graph.add(
            "LatentCLIP_ReNO", latent_image=latent, reward=self.reward(), iterations=RENDERS,
            checkpointing=checkpointing, custom_lr=False, lr=5.0, method="gradient", optimizer="sgd",
            regularization=0.01, grad_clip=0.1, candidates=1, keep=1, stop_on_plateau=False, patience=1,
            stop_at_target=False, target=0.0,
            **self._sampling(self.model, seed, 1),
        )  # fmt: skip

    def _sampling(self, model: list[Any], seed: int, steps: int) -> dict[str, Any]:
        return {
            "model": model, "positive": self.positive, "negative": self.negative, "seed": seed,
            "steps": steps, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
        }  # fmt: skip


def _write(
    searches: list[tuple],
    guided: list[tuple],
    evicted: list[tuple],
    captured: list[str],
    missing: list[str],
) -> str:
    texts = [
        f"SDXL's UNet ({shapes.UNET_PARAMETERS:,} parameters) and the Latent-CLIPs with random weights, "
        f"all in fp16, in a running ComfyUI. ReNO: 1 step, cfg 1, batch 1, {RENDERS} renders; the time "
        "is the whole node's over the renders, the faster of two runs, and what it does but once is in "
        "it. 'Free' is what other programs leave of the card. Peak memory is what torch had in use, "
        "weights included. Under dynamic VRAM the host's own copy of the weights comes on top as far as "
        "there is room: it makes way for the whole copy that ReNO works on. The last column is the norm "
        "of the difference to what the stock sampler makes of the same seed, over the norm of that.",
        table(
            (
                "host",
                "free",
                "side, px",
                "checkpointing",
                "Latent-CLIP",
                "chosen",
                "per render",
                "peak memory",
                "first render off stock",
            ),
            searches,
        ),  # fmt: skip
    ]
    if guided:
        texts += [
            f"Guidance, euler, {STEPS} steps, cfg 1: time of a step, n = {ROUNDS} rounds in turns.",
            table(
                ("host", "side, px", "Latent-CLIP", "unguided step", "guided step", "guided / unguided"),
                guided,
            ),
        ]
    if captured:
        texts.append(f"The Latent-CLIPs ran as CUDA graphs in {', '.join(captured)}.")
    if evicted:
        texts += [
            f"Renders and scores (B/8) with the whole card, with {TIGHT} GiB free, so that the models do not "
            "fit beside each other, and with the whole card again.",
            table(("host", "every bit the same"), evicted),
        ]
    if missing:
        texts.append(f"Not yet measured: {'; '.join(missing)}.")
    return "\n\n".join(texts)
