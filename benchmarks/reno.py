"""What ReNO gains on the mini world, judged by the oracle, and whether it hacks its reward."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lclip import ReNOSettings, reno
from lclip.mini import World
from lclip.mini.captions import CaptionReward
from lclip.mini.drawing import sample_scenes
from lclip.mini.scenes import Scene
from lclip.reno.run import ReNORun
from lclip.statistics import bootstrap

from .harness import Run, table, time_in_turns
from .scenes import LATENT, PIXEL, TEACHERLESS, judge_latents, noise_for, readers, world_for_cpu

ITERATIONS = 50
SEEDS = 3
CHUNK = 100  # items searched at once
MARKS = (0, 5, 10, 25, 49, 99, 149, 199)
TRACED = ("reward", "held-out", "best correct", "current correct")


@dataclass
class Search:
    """Scenes with their noises, and rewards and a generator for any part of them."""

    world: World
    scenes: list[Scene]
    noise: Tensor
    prompt: np.ndarray  # [N] which prompt an item belongs to

    def __post_init__(self) -> None:
        self.clips = readers(self.world)

    def parts(self) -> list[slice]:
        return [slice(first, first + CHUNK) for first in range(0, len(self.scenes), CHUNK)]

    def generator(self, part: slice) -> Callable[[Tensor], Tensor]:
        return self.world.generator([scene.caption for scene in self.scenes[part]])

    def reward(self, part: slice, reader: str = LATENT) -> CaptionReward:
        captions = [scene.caption for scene in self.scenes[part]]
        before = self.world.decode if reader == PIXEL else None
        return CaptionReward(self.clips[reader], captions, before=before)

    def correct(self, latents: Tensor, part: slice = slice(None)) -> np.ndarray:
        """Whether the oracle sees all of the caption: float [N]."""
        found = judge_latents(self.world, latents, self.scenes[part])
        return np.array([float(item.correct) for item in found])


def draw_search(run: Run, seeds: int, prompts: int) -> Search:
    """Test prompts, each with several noises."""
    chosen = sample_scenes(prompts, 741, split="test")
    scenes = [scene for scene in chosen for _ in range(seeds)]
    return Search(
        world_for_cpu(), scenes, noise_for(len(scenes), 742 + run.seed), np.repeat(np.arange(prompts), seeds)
    )


def gain(run: Run) -> str:
    """Oracle accuracy: plain, best of N at equal cost, ReNO on latents, ReNO through the VAE on pixels."""
    search = draw_search(run, seeds=SEEDS, prompts=run.choose(200, 4))
    iterations = run.choose(ITERATIONS, 3)
    tries, times = _equal_cost(run, search, iterations)
    gradient = ReNOSettings(iterations=iterations)
    draws = ReNOSettings(iterations=tries, method="best_of_n")
    searches = {
        "best-of-N": (LATENT, draws),
        "latent ReNO": (LATENT, gradient),
        "best-of-N, no teacher": (TEACHERLESS, draws),
        "latent ReNO, no teacher": (TEACHERLESS, gradient),
        "pixel ReNO": (PIXEL, gradient),
    }
    plain = None
    correct: dict[str, np.ndarray] = {}
    for name, (reader, settings) in searches.items():
        results = [_search(run, search, part, reader, settings, name) for part in search.parts()]
        plain = np.concatenate([result["plain correct"] for result in results])
        correct[name] = np.concatenate([result["correct"] for result in results])
    assert plain is not None
    correct = {"plain": plain, **correct}
    return _write_gain(search, correct, iterations, tries, times)


def _search(
    run: Run, search: Search, part: slice, reader: str, settings: ReNOSettings, name: str
) -> dict[str, np.ndarray]:
    """Whether the oracle sees all of the caption, before and after a search."""

    def job() -> dict[str, np.ndarray]:
        start = time.perf_counter()
        found = reno(search.generator(part), search.noise[part], search.reward(part, reader), settings)
        run.say(f"{name}: items {part.start} to {part.stop - 1}, {time.perf_counter() - start:.0f} s")
        return {
            "plain correct": search.correct(found.initial_latents, part),
            "correct": search.correct(found.best_latents, part),
        }

    return run.part(f"{name} {part.start}", job)


def _equal_cost(run: Run, search: Search, iterations: int) -> tuple[int, dict[str, list[float]]]:
    """How many renders with a score cost as much as the search with gradients, measured in turns."""
    part = search.parts()[0]
    noise = search.noise[part]

    def job(reader: str, method: str) -> Callable[[], object]:
        settings = ReNOSettings(iterations=4, method=method)
        generator, reward = search.generator(part), search.reward(part, reader)
        return lambda: list(ReNORun(generator, noise, reward, settings))

    jobs = {
        "best-of-N": job(LATENT, "best_of_n"),
        "latent ReNO": job(LATENT, "gradient"),
        "pixel ReNO": job(PIXEL, "gradient"),
    }
    # Kept like all parts: a run that goes on must compare with the same number of renders.
    kept = run.part(
        "cost", lambda: {k: np.array(v) for k, v in time_in_turns(jobs, run.choose(7, 2)).items()}
    )
    seconds = {name: values.tolist() for name, values in kept.items()}
    # four renders of which three are differentiated: the fourth costs what a plain one does
    per_render = np.median(seconds["best-of-N"]) / 4
    per_gradient = (np.median(seconds["latent ReNO"]) - per_render) / 3
    return max(iterations, round(iterations * per_gradient / per_render)), seconds


def _write_gain(
    search: Search, correct: dict[str, np.ndarray], iterations: int, tries: int, times: dict[str, list[float]]
) -> str:
    titles = {
        "plain": "plain, one step",
        "best-of-N": f"best of {tries} by Latent-CLIP (equal cost)",
        "latent ReNO": f"latent ReNO, {iterations} iterations",
        "best-of-N, no teacher": f"best of {tries} by the Latent-CLIP that had no teacher",
        "latent ReNO, no teacher": f"latent ReNO by the same, {iterations} iterations",
        "pixel ReNO": f"pixel ReNO through the VAE, {iterations} iterations",
    }
    rows = []
    for name, values in correct.items():
        over = "" if name == "plain" else bootstrap(values - correct["plain"], search.prompt).text(100, 1)
        cost = f"{1000 * np.median(times[name]) / 4 / CHUNK:.1f} ms" if name in times else ""
        rows.append((titles[name], bootstrap(values, search.prompt).percent(), over, cost))
    against = (
        ("latent ReNO", "pixel ReNO"),
        ("latent ReNO", "best-of-N"),
        ("latent ReNO, no teacher", "pixel ReNO"),
        ("latent ReNO, no teacher", "best-of-N, no teacher"),
    )
    differences = [
        (f"{one} - {other}", bootstrap(correct[one] - correct[other], search.prompt).text(100, 1))
        for one, other in against
    ]
    prompts = len(set(search.prompt.tolist()))
    return (
        f"Oracle: all of a test caption is shown. {prompts} prompts x "
        f"{len(search.scenes) // prompts} seeds, all "
        "methods from the same noises, published ReNO settings, intervals over prompts. The first "
        "Latent-CLIP was distilled from the pixel CLIP, on such searches too; the one without a teacher "
        "was trained on captions.\n\n"
        + table(("method", "all correct", "over plain, points", "per render and item"), rows)
        + "\n\n"
        + table(("paired difference", "points"), differences)
    )


def hacking(run: Run) -> str:
    """Reward, a watched reward and the truth while the search goes on four times as long as the default."""
    search = draw_search(run, seeds=1, prompts=run.choose(200, 4))
    iterations = run.choose(200, 6)
    marks = [mark for mark in MARKS if mark < iterations - 1] + [iterations - 1]
    found = [_traced(run, search, part, iterations, marks) for part in search.parts()]
    joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    flagged = joined.pop("flagged")
    traces = {mark: {n: joined[f"{mark} {n}"] for n in TRACED} for mark in marks}
    rows = [(mark, *_trace_row(traces[mark])) for mark in marks]
    kept = bootstrap(traces[_default(marks)]["best correct"] - traces[0]["best correct"])
    return (
        f"{len(search.scenes)} test prompts, one seed, published settings. Best is what ReNO would "
        "return if it stopped there, current the iteration itself. The held-out reward is the "
        "pixel CLIP's, from which the Latent-CLIP was distilled. "
        f"Oracle at the default length ({_default(marks) + 1} iterations) minus plain: "
        f"{kept.text(100, 1)} points. "
        f"Items flagged as hacked at the end: {int(flagged.sum())} of {len(flagged)}.\n\n"
        + table(
            (
                "iteration",
                "reward of the best",
                "held-out reward of the best",
                "oracle, best",
                "oracle, current",
            ),
            rows,
        )
    )


def _default(marks: list[int]) -> int:
    return ITERATIONS - 1 if ITERATIONS - 1 in marks else marks[-1]


def _traced(
    run: Run, search: Search, part: slice, iterations: int, marks: list[int]
) -> dict[str, np.ndarray]:
    """Each of `TRACED` at each mark, as "mark name", and which items the result calls hacked."""

    def job() -> dict[str, np.ndarray]:
        held_out = search.reward(part, PIXEL)
        generator, reward = search.generator(part), search.reward(part, LATENT)
        settings = ReNOSettings(iterations=iterations)
        steps = ReNORun(generator, search.noise[part], reward, settings, held_out)
        notes: dict[str, np.ndarray] = {}
        for step in steps:
            if step.iteration in marks:
                run.say(f"items from {part.start}: iteration {step.iteration}")
                with torch.no_grad():
                    watched = held_out(step.best_latents).numpy()
                values = (
                    step.best_reward.numpy(),
                    watched,
                    search.correct(step.best_latents, part),
                    search.correct(step.latents, part),
                )
                notes |= {f"{step.iteration} {n}": v for n, v in zip(TRACED, values, strict=True)}
        hacked = [since is not None for since in steps.result().hacked_since]
        return {**notes, "flagged": np.array(hacked)}

    return run.part(f"items {part.start}", job)


def _trace_row(trace: dict[str, np.ndarray]) -> list[str]:
    return [
        bootstrap(trace["reward"]).text(digits=3),
        bootstrap(trace["held-out"]).text(digits=3),
        bootstrap(trace["best correct"]).percent(),
        bootstrap(trace["current correct"]).percent(),
    ]
