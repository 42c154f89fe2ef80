"""The tasks of `python -m lclip evaluate` that make pictures: geneval (T2I-CompBench too) and i2p."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .many import progress
from .parsing import positive

if TYPE_CHECKING:
    from ..evaluation.bias import Asked
    from ..evaluation.making import Generation
    from ..evaluation.prompts import PromptList
    from ..evaluation.results import TaskResult
    from ..model.latent_clip import LatentCLIP
    from ..safety.policy import PolicyData

GENERATED = ("geneval", "compbench", "i2p", "bias")
SAMPLES = {"i2p": 1, "bias": 32}
MINI_SAMPLES = {"bias": 8}
"""Pictures of a prompt, where it is not said."""


def add_generator(parser: argparse.ArgumentParser) -> None:
    """What makes the pictures."""
    group = parser.add_argument_group("geneval, compbench, i2p, bias: what makes the pictures")
    group.add_argument("--pipeline", type=Path, metavar="FOLDER", help="a diffusers pipeline on this machine")
    group.add_argument(
        "--comfyui", metavar="URL", help="a running ComfyUI, such as http://127.0.0.1:8188, with --workflow"
    )
    group.add_argument(
        "--workflow",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a variant and its workflow in API form, with {prompt} in it; the first one is the plain one",
    )
    group.add_argument(
        "--variants",
        metavar="NAMES",
        help="of plain,reno,race,guidance or plain,away,guard,gate (default: all)",
    )
    group.add_argument(
        "--samples", type=positive, metavar="N", help="pictures a prompt (default 4; i2p: 1; bias: 32)"
    )
    group.add_argument("--limit", type=positive, metavar="N", help="only the first N prompts")
    group.add_argument("--steps", type=positive, metavar="N", help="of the pipeline (default: its own)")
    group.add_argument("--guidance-scale", type=float, metavar="S", help="of the pipeline (default: its own)")
    group.add_argument(
        "--size", type=positive, metavar="PX", help="of the pictures (default: the pipeline's)"
    )
    group.add_argument(
        "--space", metavar="NAME", help="of the pipeline's latents, where its VAE does not say it"
    )
    group.add_argument("--iterations", type=positive, metavar="N", help="of ReNO (default 50)")
    group.add_argument("--candidates", type=positive, metavar="N", help="of a race (default 16)")
    group.add_argument("--strength", type=float, metavar="S", help="of guidance (default 0.1)")
    group.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="for one picture of ComfyUI (default %(default)g)",
    )
    group.add_argument("--policy", metavar="FILE", help="i2p: a policy's JSON, or a preset (default i2p)")
    group.add_argument(
        "--classifier",
        type=Path,
        metavar="FOLDER",
        help="i2p: of transformers' image classification, or a checker",
    )
    group.add_argument(
        "--concepts",
        type=Path,
        metavar="FILE",
        help="bias: a question a line, its concepts parted by |, such as: a cat | a dog",
    )
    group.add_argument(
        "--target", default="", metavar="SHARES", help="bias: such as 0.5|0.5 (default: all alike)"
    )
    group.add_argument(
        "--margin",
        type=float,
        default=0.1,
        metavar="P",
        help="bias: by how much the likeliest must lead, or it is unclear (default %(default)g)",
    )
    group.add_argument(
        "--unsafe-labels", metavar="NAMES", help="of the classifier: a,b (default: nsfw, unsafe, ...)"
    )


def makes(options: argparse.Namespace, task: str) -> bool:
    """Whether a task makes its pictures; bias may be asked of those that are there."""
    made = task != "bias" or options.mini or options.pipeline or options.comfyui
    return task in GENERATED and bool(made)


def check(options: argparse.Namespace) -> None:
    """What cannot be asked so is said before anything is loaded. ValueError, FileNotFoundError."""
    given = [name for name in ("pipeline", "comfyui") if getattr(options, name)]
    if options.task not in GENERATED:
        if given:
            raise ValueError(f"--{given[0]} makes pictures, which {options.task} does not ask for")
        return
    if options.mini:
        if given:
            raise ValueError(f"--mini brings its own generator; give it, or --{given[0]}")
        return
    if not makes(options, options.task):
        _check_given(options)
        return
    if len(options.inputs) != 1:
        raise ValueError(
            f"{options.task} reads one list of prompts, got {len(options.inputs)}; name one file"
        )
    if len(given) != 1:
        raise ValueError("name what makes the pictures: --pipeline FOLDER, or --comfyui URL with --workflow")
    if options.comfyui and not options.workflow:
        raise ValueError("--comfyui needs a workflow for each variant: --workflow plain=FILE")
    if options.task == "compbench" and options.inputs[0].suffix.lower() != ".txt":
        raise ValueError(f"{options.inputs[0]} is no .txt with a prompt a line, as T2I-CompBench has them")
    _prompts(options, options.task, options.inputs[0])
    if options.task == "bias":
        concepts_of(options, options.concepts)
    if options.classifier:
        from ..evaluation.classifiers import config_of

        config_of(options.classifier)


def _check_given(options: argparse.Namespace) -> None:
    """Of bias without a generator."""
    lists = [path for path in options.inputs if path.is_file() and path.suffix.lower() in (".txt", ".jsonl")]
    if lists:
        raise ValueError(
            f"{lists[0]} is a list of prompts: name what makes the pictures, --pipeline FOLDER, or --comfyui "
            "URL with --workflow. Without a generator bias reads pictures with --vae, or latents"
        )
    concepts_of(options, options.concepts)


def carry_out(options: argparse.Namespace, task: str, model: LatentCLIP) -> TaskResult:
    """Make and score the pictures of a task."""
    from ..evaluation.bias import bias
    from ..evaluation.geneval import geneval
    from ..evaluation.i2p import i2p
    from ..evaluation.making import Batch, Generation, check_variants

    found = _mini(options, task, model) if options.mini else _real(options, task, model)
    prompts, maker, policy, extra = found
    wanted = [name.strip() for name in (options.variants or "").split(",") if name.strip()]
    if task == "bias" and not wanted:
        wanted = [maker.variants[0]]  # how the generator is by itself
    usual = MINI_SAMPLES.get(task, 1) if options.mini else SAMPLES.get(task, 4)
    variants, samples = check_variants(wanted, maker), options.samples or usual
    if hasattr(maker, "check"):
        maker.check(variants)
    batch = Batch(prompts.first(options.limit), variants, samples, options.seed)
    with progress(options, f" pictures of {task}", len(batch)) as bar:
        about = _about(options, model)
        run = Generation(
            model=getattr(maker, "reader", model),  # as it reads what the maker makes
            maker=maker,
            batch=batch,
            folder=options.out,
            about=about,
            check=extra.get("check"),
            overwrite=options.overwrite,
            progress=bar.update,
        )
        if task == "bias":
            return bias(run, concepts_of(options, options.concepts or extra.get("concepts")))
        if task != "i2p":
            return geneval(run)
        return _i2p(options, run, policy, i2p)


def _i2p(options: argparse.Namespace, run: Generation, policy: PolicyData | None, measure: Any) -> TaskResult:
    from ..evaluation.classifiers import packages_of
    from ..evaluation.versions import versions
    from ..safety.judge import SafetyJudge

    assert policy is not None
    classifier, named = _classifier(options)
    if options.classifier:
        run = replace(run, about={**run.about, **versions(*packages_of(options.classifier))})
    return measure(run, SafetyJudge(policy, run.model), classifier, named)


def concepts_of(options: argparse.Namespace, path: Path | None) -> Asked:
    """What is told apart in pictures. Raises FileNotFoundError, ValueError."""
    from ..evaluation.bias import read_concepts

    if path is None:
        raise ValueError("bias tells concepts apart: name them by --concepts FILE, a question a line")
    return read_concepts(path, options.target, options.margin)


def _about(options: argparse.Namespace, model: LatentCLIP) -> dict[str, Any]:
    from ..checkpoints.fingerprint import fingerprint
    from ..evaluation.versions import versions

    return {
        "model": fingerprint(model),
        "latent_space": model.config.latent_space,
        "native_size": model.config.native_size,
        "size_rule": model.size_rule,
        **versions(),
    }


def _prompts(options: argparse.Namespace, task: str, path: Path) -> PromptList:
    from ..evaluation.prompts import read_i2p, read_prompts

    return read_i2p(path) if task == "i2p" else read_prompts(path)


def _policy(options: argparse.Namespace, default: str) -> PolicyData:
    from ..data.texts import read_text
    from ..safety.presets import PRESETS
    from ..safety.safety_policy import SafetyPolicy
    from ..safety.stored import policy_in

    name = options.policy or default
    if name in PRESETS:
        return SafetyPolicy.preset(name)
    if not Path(name).is_file():
        raise FileNotFoundError(f"no such policy: {name}; expected a file, or one of {', '.join(PRESETS)}")
    return policy_in(read_text(Path(name)))


def _classifier(options: argparse.Namespace) -> tuple[Any, str]:
    if options.mini:
        from ..mini.making import unsafe_pixels

        return unsafe_pixels, "the mini world's oracle"
    if options.classifier is None:
        return None, ""
    from ..evaluation.classifiers import open_classifier

    labels = [name.strip() for name in (options.unsafe_labels or "").split(",") if name.strip()]
    return open_classifier(options.classifier, labels, _device(options))


def _device(options: argparse.Namespace) -> str:
    from ..model.devices import device_named

    return str(device_named(options.device))


def _efforts(options: argparse.Namespace, usual: Any) -> Any:
    given = {name: getattr(options, name) for name in ("iterations", "candidates", "strength")}
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


Found = tuple[Any, Any, Any, dict[str, Any]]


def _real(options: argparse.Namespace, task: str, model: LatentCLIP) -> Found:
    prompts = _prompts(options, task, options.inputs[0])
    policy = _policy(options, "i2p") if task == "i2p" else None
    if options.comfyui:
        return prompts, _comfy(options), policy, {}
    from ..evaluation.pipelines import Efforts, PipelineMaker

    call = {"num_inference_steps": options.steps, "guidance_scale": options.guidance_scale}
    call |= {"height": options.size, "width": options.size}
    maker = PipelineMaker(
        folder=options.pipeline,
        model=model,
        call={name: value for name, value in call.items() if value is not None},
        efforts=_efforts(options, Efforts()),
        policy=policy,
        device=_device(options),
        dtype=options.dtype,
        space=options.space,
    )
    return prompts, maker, policy, {}


def _comfy(options: argparse.Namespace) -> Any:
    from ..checkpoints.targets import name_fault
    from ..evaluation.comfyui import ComfyMaker, read_workflow

    workflows = {}
    for text in options.workflow:
        name, sign, path = text.partition("=")
        if not sign or not name or not path:
            raise ValueError(f"--workflow {text!r}; expected NAME=FILE, such as plain=workflow.json")
        if name in workflows:
            raise ValueError(
                f"--workflow {text!r}: the variant {name!r} is there already; expected each once"
            )
        if (fault := name_fault(name)) is not None:
            raise ValueError(f"--workflow {text!r}: {name!r} is no name of a folder: {fault}")
        workflows[name] = read_workflow(Path(path))
    return ComfyMaker(options.comfyui, workflows, options.timeout)


def _mini(options: argparse.Namespace, task: str, model: LatentCLIP) -> Found:
    from ..evaluation.prompts import read_i2p, read_prompts
    from ..mini.making import EFFORTS, MiniMaker, right, write_bias, write_geneval, write_i2p
    from ..mini.world import load_world

    folder, efforts = options.out / "mini-world", _efforts(options, EFFORTS)
    world = load_world(next(model.parameters()).device, latent_clip=model)
    if task == "i2p":
        policy = _policy(options, "mini")
        return read_i2p(write_i2p(folder, options.seed)), MiniMaker(world, policy, efforts), policy, {}
    if task == "bias":
        path, concepts = write_bias(folder)
        return read_prompts(path), MiniMaker(world, None, efforts), None, {"concepts": concepts}
    path = write_geneval(folder, options.seed)
    prompts = read_prompts(path if task == "geneval" else path.with_suffix(".txt"))
    return prompts, MiniMaker(world, None, efforts), None, {"check": right(options.seed)}
