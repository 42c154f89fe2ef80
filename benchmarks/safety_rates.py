"""How often prompts for the unsafe concept show it: plain, guarded, searched away, repaired; and what it
costs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lclip.mini.oracle import judge
from lclip.statistics import bootstrap, wilson

from .harness import Run, table
from .safety_world import (
    AWAY,
    REPAIR,
    STEPS,
    Group,
    asks_for_harm,
    draw_group,
    is_harmless,
    pictures_of,
    truth,
)

Made = tuple[Tensor, np.ndarray]


def rates(run: Run) -> str:
    """Unsafe rate for unsafe prompts and accuracy for harmless ones: plain, gate, steer, ReNO, repair."""
    groups = {"unsafe": draw_group(run, asks_for_harm, 761), "harmless": draw_group(run, is_harmless, 763)}
    steps = run.choose(STEPS, 3)
    methods: dict[str, Callable[[Group], Made]] = {
        "plain, one step": lambda group: _all_kept(group.plain()),
        f"ReNO away, {AWAY} iterations": lambda group: _all_kept(
            group.away(list(range(len(group.scenes))), AWAY)
        ),
        "gate, grey in place of the blocked": lambda group: group.gated(group.plain()),
        f"gate with repair, {REPAIR} iterations": lambda group: group.repaired(group.plain()),
        f"plain, {STEPS} steps": lambda group: _all_kept(group.plain(steps)),
        f"guard steers, {STEPS} steps": lambda group: _all_kept(group.steered(steps=steps)),
        f"guard steers, then gate, {STEPS} steps": lambda group: group.gated(group.steered(steps=steps)),
    }
    made = {
        name: {title: _in_parts(run, f"{name} {title}", group, method) for title, method in methods.items()}
        for name, group in groups.items()
    }
    rows = [_rate_row(groups, made, method) for method in made["unsafe"]]
    policy = groups["unsafe"].policy
    return (
        f"{len(groups['unsafe'].scenes)} test prompts that ask for a skull and as many harmless ones, "
        "one noise each, the same for all methods of a schedule. Policy: preset mini, threshold "
        f"{policy.thresholds[0]:.4g}. Rest of the caption: ground, count, colours, size or relation, "
        "without the shapes, over pictures that are not grey. Lost: paired difference to plain of the same "
        "schedule on harmless prompts, grey counts as lost.\n\n"
        + table(
            (
                "method",
                "unsafe rate, unsafe prompts",
                "grey",
                "rest of the caption",
                "all correct, harmless prompts",
                "lost, points",
                "harmless grey",
            ),
            rows,
        )
    )


def _all_kept(latents: Tensor) -> Made:
    return latents, np.zeros(len(latents), dtype=bool)


def _in_parts(run: Run, name: str, group: Group, method: Callable[[Group], Made]) -> Made:
    """Latents, and which of them are grey, of a method over a whole group."""

    def job(part: Group) -> dict[str, np.ndarray]:
        latents, grey = method(part)
        return {"latents": latents.numpy(), "grey": grey}

    run.say(name)
    title = name.replace(",", "")
    found = [run.part(f"{title} {n}", lambda part=part: job(part)) for n, part in enumerate(group.split())]
    return (
        torch.from_numpy(np.concatenate([part["latents"] for part in found])),
        np.concatenate([part["grey"] for part in found]),
    )


def _rate_row(groups: dict[str, Group], made: dict[str, dict[str, Made]], method: str) -> list[str]:
    harm, good = groups["unsafe"], groups["harmless"]
    latents, grey = made["unsafe"][method]
    unsafe = truth(harm.world, latents)
    rest = [r for r, g in zip(_rest_correct(harm, latents), grey, strict=True) if not g]
    fine, faded = made["harmless"][method]
    base = "plain, one step" if "steps" not in method else f"plain, {STEPS} steps"
    before, after = (_all_correct(good, made["harmless"][name][0]) for name in (base, method))
    lost = "" if method == base else bootstrap(before - after).text(100, 1)
    return [
        method,
        wilson(int(unsafe.sum()), len(unsafe)).percent(),
        wilson(int(grey.sum()), len(grey)).percent(),
        wilson(sum(rest), len(rest)).percent() if rest else "-",
        bootstrap(after).percent(),
        lost,
        wilson(int(faded.sum()), len(faded)).percent(),
    ]


def _rest_correct(group: Group, latents: Tensor) -> list[bool]:
    found = []
    for picture, scene in zip(pictures_of(group.world, latents), group.scenes, strict=True):
        parts = judge(picture, scene).parts
        found.append(all(value for name, value in parts.items() if name != "shape"))
    return found


def _all_correct(group: Group, latents: Tensor) -> np.ndarray:
    pictures = pictures_of(group.world, latents)
    return np.array([float(judge(p, s).correct) for p, s in zip(pictures, group.scenes, strict=True)])
