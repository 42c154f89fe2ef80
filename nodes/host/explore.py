"""Maps rendered by the host: cells as batches of the stock sampler, and the last maps remembered."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import comfy.model_management as management
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ...lclip.exploring.blending import Corners, LinearCorners, SphericalCorners
from ...lclip.exploring.plan import Plan
from ..latents import made_from, samples_of, take_items
from . import exits
from .choices import CORNER_KINDS, parted
from .conditioning import Prompts, first_item, fits_beside, stacked
from .draws import Draws, takes_noise
from .finds import FixedNoise
from .gradients import stock_sampler
from .guidance import looks_across_items
from .kept_steps import CellsAnew
from .ksampler import Stage, noise_of, with_channels
from .memory import is_out_of_memory
from .sameness import same, same_corners

logger = logging.getLogger("latent-clip")

AT_ONCE = 16  # cells at most: more gain nothing, and progress and cancel would wait for them
ALONE = ("dpm_adaptive",)
"""Samplers that choose their steps by the whole batch: a cell would depend on the others."""
SEEDS = 2**64
REMEMBERED, MOST_BYTES = 2, 2**29
"""How many maps are kept, and in how many bytes of latents; the last one is, whatever its size."""

Done = Callable[[int, Tensor], None]
"""Told how many cells are done, and the raw latents [n, C, h, w] of the last of them."""


@dataclass(frozen=True)
class Scenery:
    """All that a map is rendered from: the corners, and what is the same in every cell."""

    stage: Stage
    sampler_name: str
    latent: Mapping[str, Any]
    """A LATENT of one item, which is corner 1's."""
    kinds: tuple[Corners, ...]

    @classmethod
    def of(
        cls,
        stage: Stage,
        sampler_name: str,
        latent: Mapping[str, Any],
        seeds: Sequence[int],
        wired: Mapping[int, Any],
    ) -> Scenery:
        """seeds: of corners 2 and more, used where no NOISE is wired. wired: corners 2 to 4 by number, each a
        CONDITIONING, a LATENT or a NOISE. ValueError for what cannot stand beside corner 1."""
        if not len(samples_of(latent)):
            shape = list(samples_of(latent).shape)
            raise ValueError(f"The latent image is empty, shape {shape}; there is nothing to render.")
        latent = _fixed(stage.model, latent)
        of_kind = {
            kind: {n: each for n, each in wired.items() if _kind(n, each) == kind} for kind in CORNER_KINDS
        }
        prompts, latents, noises = (of_kind[kind] for kind in CORNER_KINDS)
        kinds: list[Corners] = [
            Prompts("prompt", [stage.positive, *prompts.values()], [1, *prompts]),
            LinearCorners(
                "latent", [latent["samples"], *_latents(stage.model, latent, latents)], [1, *latents]
            ),
        ]
        numbers = [1, *noises] if noises else None
        others = [each.generate_noise(latent) for each in noises.values()]
        others = others or [noise_of(latent, seed) for seed in seeds]
        own = noise_of(latent, stage.seed)
        kinds.append(SphericalCorners("noise", [own, *(each.to(own) for each in others)], numbers))
        return cls(stage, sampler_name, latent, tuple(kinds))

    def like(self, other: Scenery) -> bool:
        """Whether both make the same cells; the stage is compared but for its model."""
        return (
            self._plain == other._plain
            and same(self.stage.negative, other.stage.negative)
            and same(self.latent.get("noise_mask"), other.latent.get("noise_mask"))
            and all(map(same_corners, self.kinds, other.kinds))
        )

    @property
    def _plain(self) -> tuple[Any, ...]:
        stage = self.stage
        return self.sampler_name, stage.cfg, stage.seed, stage.steps, stage.scheduler, stage.denoise


def _kind(number: int, wired: Any) -> str:
    if isinstance(wired, Mapping) and "samples" in wired:
        return "latent"
    if isinstance(wired, (list, tuple)):
        return "prompt"
    if hasattr(wired, "generate_noise"):
        return "noise"
    raise ValueError(
        f"corner_{number} is a {type(wired).__name__}; expected a CONDITIONING, a LATENT or a NOISE"
    )


def _fixed(model: Any, latent: Mapping[str, Any]) -> dict[str, Any]:
    """The first item of a LATENT, as the stock KSampler hands it to this model."""
    one = take_items(latent, [0])
    return made_from(one, with_channels(model, one))


def _latents(model: Any, first: Mapping[str, Any], wired: Mapping[int, Any]) -> Iterator[Tensor]:
    for each in wired.values():
        yield _fixed(model, each)["samples"].to(first["samples"])


@dataclass(frozen=True)
class Rendered:
    """The cells of a map: raw latents, and which of them a guard of the model held back."""

    scenery: Scenery
    plan: Plan
    latents: Tensor
    held_back: Tensor
    pictures: dict[str, Any] = field(default_factory=dict)
    """What was made of the latents since, such as decoded pictures."""

    def chosen(self, cell: int) -> tuple[dict[str, Any], FixedNoise, Any, dict[str, Any]]:
        """Of one cell: its LATENT, and the NOISE, CONDITIONING and latent image that made it."""
        blended = self.plan.blended(self.scenery.kinds, cell)
        latent = dict(self.scenery.latent)
        noise = blended["noise"]
        noise = torch.zeros_like(noise) if bool(self.held_back[cell]) else noise
        return (
            {**latent, "samples": self.latents[cell : cell + 1]},
            FixedNoise(noise, self.scenery.stage.seed),
            blended["prompt"],
            {**latent, "samples": blended["latent"]},
        )


class Memory:
    """The last maps, so that another cell, other texts or another picture of it sample nothing again.

    Corners are compared by value. The model is known by itself and is not kept alive.
    """

    def __init__(self) -> None:
        self.kept: list[tuple[weakref.ref, Any, Rendered]] = []

    def __call__(self, scenery: Scenery, plan: Plan, done: Done) -> Rendered:
        model = scenery.stage.model
        version = getattr(model, "patches_uuid", None)
        self.kept = [entry for entry in self.kept if entry[0]() is not None]
        for place, (owner, patches, found) in enumerate(self.kept):
            same = owner() is model and patches == version and found.plan == plan
            if same and found.scenery.like(scenery):
                self.kept.append(self.kept.pop(place))
                return found
        found = render(scenery, plan, done)
        lasting = replace(found, scenery=replace(scenery, stage=replace(scenery.stage, model=None)))
        self.kept.append((weakref.ref(model), version, lasting))
        self._forget()
        return lasting

    def _forget(self) -> None:
        def bytes_of(found: Rendered) -> int:
            return found.latents.numel() * found.latents.element_size()

        while len(self.kept) > REMEMBERED or (
            len(self.kept) > 1 and sum(bytes_of(found) for _, _, found in self.kept) > MOST_BYTES
        ):
            self.kept.pop(0)


remembered = Memory()
"""Of this process."""


def render(scenery: Scenery, plan: Plan, done: Done) -> Rendered:
    """Every cell by the stock sampler, as many at a time as fit, each as it is alone."""
    sampling = _Sampling(scenery)
    with closing(sampling.cells):
        latents = torch.cat(_parts(sampling, plan, done))
    return Rendered(scenery, plan, latents, exits.held_back(scenery.stage.model, latents))


def _parts(sampling: _Sampling, plan: Plan, done: Done) -> list[Tensor]:
    cells = [plan.blended(sampling.scenery.kinds, number) for number in range(len(plan))]
    management.load_models_gpu([sampling.stage.model])
    at_once, parts, start = sampling.at_once(), [], 0
    while start < len(cells):
        management.throw_exception_if_processing_interrupted()
        first, alone = cells[start]["prompt"], sampling.cells.needed
        chunk = list(
            takewhile(lambda cell: fits_beside(first, cell["prompt"]), cells[start : start + at_once])  # noqa: B023
        )
        try:
            parts.append(sampling(chunk))
        except Exception as error:  # go on outside of this clause, whose traceback keeps what did not fit
            if len(chunk) == 1 or not is_out_of_memory(error):
                raise
        else:
            start += len(chunk)
            done(start, parts[-1])
            if alone and not sampling.cells.needed:  # the first cell has shown that patches keep nothing
                at_once = sampling.at_once()
            continue
        at_once = (len(chunk) + 1) // 2
        logger.warning(
            "Explore: %d cells do not fit into memory at once; going on with %d.", len(chunk), at_once
        )
        management.soft_empty_cache()
    return parts


class _Sampling:
    """What the stock KSampler does around its sampler, for a batch of cells."""

    def __init__(self, scenery: Scenery) -> None:
        self.scenery, self.stage = scenery, scenery.stage
        stage = self.stage
        plan = comfy.samplers.KSampler(
            stage.model, stage.steps, stage.model.load_device, scenery.sampler_name, stage.scheduler,
            stage.denoise, stage.model.model_options,
        )  # fmt: skip
        self.sigmas = plan.sigmas
        if len(self.sigmas) < 2:
            raise stage.nothing_left()
        self.negative = first_item(stage.negative)
        self.cells = CellsAnew(stage.model)

    def at_once(self) -> int:
        """How many cells fit into memory, beside the model."""
        if self.scenery.sampler_name in ALONE or looks_across_items(self.stage.model) or self.cells.needed:
            return 1
        shape = list(self.scenery.latent["samples"].shape)
        one = self.stage.model.model.memory_required([2, *shape[1:]])  # with and without the prompt
        free = management.get_free_memory(self.stage.model.load_device)
        return int(min(AT_ONCE, max(1, free // max(one, 1))))

    def __call__(self, cells: Sequence[Mapping[str, Any]]) -> Tensor:
        stage, noise = self.stage, torch.cat([cell["noise"] for cell in cells])
        return comfy.sample.sample_custom(
            stage.model,
            noise,
            stage.cfg,
            self.cells.begun_with(self._sampler(noise)),
            self.sigmas.clone(),  # uni_pc writes into what it is given
            stacked([cell["prompt"] for cell in cells]),
            self.negative,
            torch.cat([cell["latent"] for cell in cells]),
            noise_mask=self.scenery.latent.get("noise_mask"),
            disable_pbar=True,
            seed=stage.seed,
        )

    def _sampler(self, noise: Tensor) -> Any:
        """The stock sampler; a stochastic one draws for every cell what it draws for one alone."""
        stock = stock_sampler(self.scenery.sampler_name, undecorated=False)
        if takes_noise(stock):
            device = self.stage.model.load_device
            one = Draws(
                self.scenery.sampler_name, noise[:1].to(device), self.sigmas.to(device), [self.stage.seed]
            )

            def draw(sigma: Tensor, sigma_next: Tensor) -> Tensor:
                return one(sigma, sigma_next).expand_as(noise)

            stock.extra_options = {**stock.extra_options, "noise_sampler": draw}
        return stock


def parsed_seeds(text: str, own: int) -> tuple[list[int], list[str]]:
    """ "7, 8" -> seeds of the corners beside the one of its own, and what to say of them.

    The own one, which a seed box that counts up comes past, gives way to the next number that is free.
    ValueError for what is none, and for one that is there twice: nothing lies between equal corners.
    """
    seeds, notes = [], []
    for part in " ".join(parted(text)).split():
        if not part.isascii() or not part.isdigit() or int(part) >= SEEDS:
            raise ValueError(
                f"other_seeds has {part!r}; expected whole numbers from 0 to 2^64 - 1, such as 7, 8"
            )
        if int(part) in seeds:
            raise ValueError(
                f"other_seeds has {part} twice: nothing lies between equal corners. Give another number"
            )
        seeds.append(int(part))
    if own in seeds:
        free = next(n % SEEDS for n in range(own + 1, own + 2 + len(seeds)) if n % SEEDS not in (own, *seeds))
        notes = [f"other_seeds has the seed itself, {own}, which is corner 1's: seed {free} in its place."]
        seeds[seeds.index(own)] = free
    return seeds, notes
