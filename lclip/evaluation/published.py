"""What the paper (arXiv 2503.08455) reports, for which of our rows; else why there is no figure of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..model.latent_clip import LatentCLIP
from ..training.towers import MODELS
from .making import Generation
from .pipelines import PLAIN, RENO, PipelineMaker

REVIEW = "as a review of its tables gives it, without their numbers"
VALIDATION = 50_000
IMAGENET = {"b-8": 68.8, "b-4-plus": 73.5}
IMAGENET_SOURCE = f"ImageNet zero-shot top-1 of arXiv 2503.08455, {REVIEW}"
GENEVAL_SOURCE = f"GenEval, SDXL-Turbo in one step, of arXiv 2503.08455, {REVIEW}"
OVERALL = "overall"
GENEVAL = {
    PLAIN: {OVERALL: 54.0, "two_object": 66.0, "counting": 45.0},
    "b-8": {OVERALL: 60.0, "two_object": 78.0, "counting": 53.0},
    "b-4-plus": {OVERALL: 62.0, "two_object": 82.0, "counting": 60.0},
}
"""In percent, by what the noise was searched with. What the review says no figure of is not here."""
TAGS = {
    "single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100
}  # fmt: skip
"""GenEval's 553 prompts."""
PUBLISHED_ITERATIONS = 50
TURBO_SAMPLE = 64  # cells that SDXL-Turbo's UNet is configured for; SDXL's own has 128

RETRIEVAL = 'There is no column "paper": no figure of the paper for retrieval is known here.'
COMPBENCH = (
    "There is no column \"paper\": the paper's figures on T2I-CompBench are by that benchmark's own scorers, "
    "of whose files nothing is read here."
)
I2P = (
    'There is no column "paper": the paper says how likely a picture of I2P\'s 4,703 prompts is '
    "inappropriate (SDXL-Turbo 32 %, 50 steps away from harm with B/4-plus 16 %, "
    + REVIEW
    + "), by a judge that is not "
    "known here. A share by another judge, ours or the one that --classifier names, is another row."
)
BIAS = (
    'There is no column "paper": neither prompts, concepts, judge nor figures of the paper\'s evaluation of '
    "bias are known here."
)


@dataclass(frozen=True)
class Beside:
    """The paper's figures for rows, in percent, and what is to be said of them, or of there being none."""

    said: str
    figures: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    def of(self, what: str) -> tuple[float | None, str]:
        """A row's figure and where it is from."""
        return (self.figures[what], self.source) if what in self.figures else (None, "")


def shape_of(model: LatentCLIP) -> str | None:
    """Which released model has that shape."""
    return next((name for name, config in MODELS.items() if config == model.config), None)


def beside_imagenet(model: LatentCLIP, names: bool, number: int) -> Beside:
    """Of top-1. names: whether classes and templates are ImageNet's. number: of pictures that counted."""
    shape = shape_of(model)
    if shape is None:
        reason = "the model has not the shape of a released one"
    elif not names:
        reason = "the classes or templates are others"
    elif number != VALIDATION:
        reason = f"{number:,} pictures count here"
    else:
        return Beside(
            'The column "paper": ' + IMAGENET_SOURCE + ".", {"top-1": IMAGENET[shape]}, IMAGENET_SOURCE
        )
    return Beside(
        'There is no column "paper": its row is a released model on ImageNet\'s 50,000 validation pictures, '
        f"with its 1000 names and 80 templates; {reason}."
    )


def beside_geneval(run: Generation) -> Beside:
    """Of what GenEval's own scorer says of each variant: "VARIANT TAG" or "VARIANT overall"."""
    reason = _not_geneval(run) or _not_turbo(run)
    if reason:
        return Beside(
            'There is no column "paper": its rows are what GenEval\'s own scorer says of all 553 prompts, '
            f"made by SDXL-Turbo in one step without guidance; {reason}."
        )
    figures = {f"{PLAIN} {tag}": figure for tag, figure in GENEVAL[PLAIN].items()}
    shape, searched = shape_of(run.model), getattr(run.maker, "efforts", None)
    if shape and searched and searched.iterations == PUBLISHED_ITERATIONS:
        figures |= {f"{RENO} {tag}": figure for tag, figure in GENEVAL[shape].items()}
    return Beside(
        f'The column "paper": {GENEVAL_SOURCE}. The pipeline has SDXL-Turbo\'s shape; whether it has its '
        "weights, no program here can tell. The paper's figures are of GenEval's own scorer: they stand "
        "beside it once it has written its file.",
        figures,
        GENEVAL_SOURCE,
    )


def _not_geneval(run: Generation) -> str:
    found = Counter(tag for prompt in run.batch.prompts.prompts for tag in prompt.groups)
    return "" if found == TAGS else f"the prompts are {len(run.batch.prompts.prompts)} others"


def _not_turbo(run: Generation) -> str:
    """Why what makes the pictures cannot be SDXL-Turbo as the paper ran it; empty where it can."""
    maker = run.maker
    if not isinstance(maker, PipelineMaker):
        return "what makes these pictures cannot be compared with that"
    unet = getattr(maker.pipe, "unet", None)
    if not type(maker.pipe).__name__.startswith("StableDiffusionXL") or unet is None:
        return f"this is a {type(maker.pipe).__name__}"
    if unet.config.sample_size != TURBO_SAMPLE:
        return f"this pipeline is made for {unet.config.sample_size} cells, not {TURBO_SAMPLE}"
    steps, scale = (maker.call.get(name) for name in ("num_inference_steps", "guidance_scale"))
    if steps != 1 or scale != 0:
        return f"here --steps is {steps} and --guidance-scale {scale}"
    size = maker.call.get("height")
    return "" if size in (None, 8 * TURBO_SAMPLE) else f"here --size is {size}"
