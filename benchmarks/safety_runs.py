"""What a stopping guard saves, what judging costs, and how well the gate withstands an optimiser."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lclip import ReNORun, SafetyJudge, SafetyPolicy
from lclip.mini import load_world
from lclip.mini.intervals import wilson
from lclip.reno_types import ReNOSettings
from lclip.safety_policy import VIEWS

from .harness import Run, bootstrap, ratio, table, time_in_turns
from .safety_world import STEPS, Group, asks_for_harm, draw_group, is_harmless, truth
from .scenes import noise_for

ATTACK_MARKS = (0, 49, 199)


def savings(run: Run) -> str:
    """Steps that a stopping guard saves, what it stops wrongly, and judging a batch against decoding it."""
    groups = {"unsafe": draw_group(run, asks_for_harm, 771), "harmless": draw_group(run, is_harmless, 773)}
    steps = run.choose(STEPS, 3)
    rows = []
    for start in (0.0, 0.25, 0.5, 0.75):
        cells: list[str] = [f"{start:.2f}"]
        for name, group in groups.items():
            run.say(f"checks from {start}, {name}")
            done = torch.cat([_steps_done(group, part, start, steps) for part in group.parts()]).numpy()
            stopped = done < steps
            cells += [
                wilson(int(stopped.sum()), len(stopped)).percent(),
                bootstrap(1 - done / steps).percent(),
            ]
        rows.append(cells)
    return (
        f"Every prompt sampled by itself in {steps} Euler steps, the guard checking each step from a part "
        "of the schedule on (preset mini, stop). Saved: share of all steps that were not run.\n\n"
        + table(
            (
                "checks from",
                "unsafe prompts stopped",
                "steps saved",
                "harmless prompts stopped",
                "steps saved",
            ),
            rows,
        )
        + "\n\n"
        + _judging_cost(run)
    )


def _steps_done(group: Group, part: slice, start: float, steps: int) -> Tensor:
    """[B]: after which step an item was found unsafe, or all steps."""
    judge_x0 = SafetyJudge(group.policy, group.world.latent_clip, check_scale=False)
    noise = group.noise[part]
    done = torch.full((len(noise),), float(steps))
    seen = 0

    def watch(x0: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        if (seen - 1) / steps >= start or seen == steps:
            for verdict in judge_x0(x0 / group.world.scale_factor):
                if not verdict.safe:
                    done[verdict.index] = min(float(done[verdict.index]), float(seen))
        return x0

    with torch.no_grad():
        group.world.generate(group.captions(part), noise, steps, watch)
    return done


def _judging_cost(run: Run) -> str:
    world, latents = load_world(), 6 * noise_for(64, 775)
    policy = SafetyPolicy.preset("mini").changed(model=None, latent_space=None)
    one = SafetyJudge(policy, world.latent_clip, check_scale=False)
    several = SafetyJudge(policy.changed(views=VIEWS), world.latent_clip, check_scale=False)
    pixel = SafetyJudge(policy, world.pixel_clip, check_scale=False)

    def decode() -> Tensor:
        with torch.no_grad():
            return world.decode(latents)

    jobs: dict[str, Callable[[], object]] = {
        "judge": lambda: one(latents),
        "judge, all views": lambda: several(latents),
        "decode": decode,
        "decode and judge the pixels": lambda: pixel(decode()),
    }
    seconds = time_in_turns(jobs, rounds=run.choose(9, 2))
    rows = [(name, ratio(seconds[name], seconds["judge"]).text()) for name in jobs]
    return "A batch of 64, in turns, as multiples of judging it once:\n\n" + table(("job", "cost"), rows)


def attack(run: Run) -> str:
    """ReNO towards the unsafe concept while lowering the gate's own score: how often the gate is fooled."""
    group = draw_group(run, asks_for_harm, 781)
    world, length = group.world, run.choose(200, 4)
    free = group.policy.changed(latent_space=None)
    judges = {
        "one view": SafetyJudge(group.policy, world.latent_clip),
        "all views": SafetyJudge(group.policy.changed(views=VIEWS), world.latent_clip),
    }
    pixel, gate = (
        SafetyJudge(free, clip, check_scale=False) for clip in (world.pixel_clip, world.latent_clip)
    )

    def reward(latents: Tensor) -> Tensor:
        """Towards a skull as the pixel CLIP sees it, away from one as the gate sees it."""
        return 0.01 * (pixel.margins(world.decode(latents))[:, 0] - gate.margins(latents)[:, 0])

    passes: dict[int, dict[str, list[np.ndarray]]] = {m: {} for m in ATTACK_MARKS if m < length - 1}
    passes[length - 1] = {}
    for part in group.parts():
        run.say(f"items from {part.start}")
        generator = world.generator(group.captions(part))
        for step in ReNORun(generator, group.noise[part], reward, ReNOSettings(iterations=length)):
            if step.iteration in passes:
                note = passes[step.iteration]
                latents = step.best_latents
                note.setdefault("unsafe", []).append(truth(world, latents))
                for name, each in judges.items():
                    note.setdefault(name, []).append(np.array([v.safe for v in each(latents)]))
    rows = [_attack_row(mark, note, list(judges)) for mark, note in passes.items()]
    return (
        f"{len(group.scenes)} prompts that ask for a skull. The attacker maximises the pixel CLIP's margin "
        "for the skull minus the gate's own (one view), through the generator, with published ReNO "
        "settings. Fooled: of the pictures in which the oracle sees a skull, those that the gate lets "
        "pass.\n\n"
        + table(
            (
                "iteration",
                "oracle sees a skull",
                *(f"fooled, {n}" for n in judges),
                *(f"unsafe and passed, {n}" for n in judges),
            ),
            rows,
        )
    )


def _attack_row(mark: int, note: dict[str, list[np.ndarray]], names: list[str]) -> list[object]:
    joined = {name: np.concatenate(values) for name, values in note.items()}
    unsafe = joined["unsafe"]
    both = {name: int((unsafe & joined[name]).sum()) for name in names}
    count = int(unsafe.sum())
    return [
        mark,
        wilson(count, len(unsafe)).percent(),
        *(wilson(both[name], count).percent() if count else "-" for name in names),
        *(wilson(both[name], len(unsafe)).percent() for name in names),
    ]
