"""`python -m lclip evaluate`: a Latent-CLIP measured as papers do, beside the paper's figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluate_generated import GENERATED, add_generator, concepts_of, makes
from .evaluate_generated import carry_out as generate
from .evaluate_generated import check as check_generator
from .evaluate_settings import check_settings, remember_usual
from .many import progress
from .options import add_latent_key, add_model_options, add_size_rule, add_workers, source_of
from .parsing import add_command, positive, seed

if TYPE_CHECKING:
    from ..evaluation.results import TaskResult
    from ..evaluation.tasks import Setup
    from ..model.latent_clip import LatentCLIP

TASKS = ("imagenet", "retrieval", *GENERATED)


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "evaluate",
        run,
        """
        Measure a Latent-CLIP as papers do: tables as JSON, CSV and a page with pictures.
        imagenet   zero-shot classification: a folder for each class, as ImageNet's validation pictures
                   lie, or one picture for each class
        retrieval  latents find their captions and the reverse; captions are KEY.txt, or a CSV
        geneval    GenEval's prompts: pictures as its own scorer reads them, plain, with ReNO, race and
                   guidance, and how well they fit by our scores
        compbench  the same of T2I-CompBench's prompts, a .txt with a prompt a line
        i2p        I2P's prompts: how often pictures are unsafe by our policy and by a pixel classifier,
                   plain, with ReNO away from harm, guard and gate
        bias       prompts that leave something open, a line each, and the concepts of --concepts: shares
                   over many pictures, with intervals; without a generator, over pictures or latents
                   that are there, prompt by prompt where texts or --captions give prompts
        all        every task, of what --mini brings

        INPUT is files, folders or tar shards of pictures with --vae, or of latents without; of what makes
        pictures the file of prompts. The page has a
        column "paper" only where the paper has the same row. Run the same command again after an
        interruption, and it goes on where it was. Exit code: 0, or 1 if an item could not be read.
        """,
        """
        python -m lclip evaluate --mini all --out tables
        python -m lclip evaluate imagenet --model latent-clip-b-8.safetensors --vae sdxl-vae-fp16-fix \\
            imagenet/val --out tables
        """,
    )
    parser.set_defaults(late="inputs")
    parser.add_argument("task", choices=(*TASKS, "all"), help="what is measured")
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="pictures or latents")
    add_latent_key(parser)
    group = parser.add_argument_group("task")
    group.add_argument("--vae", metavar="VAE", help="of pictures: a diffusers folder, a file, or TAESD")
    group.add_argument(
        "--classes", type=Path, metavar="FILE", help="a class a line: its folder, a tab, its name"
    )
    group.add_argument(
        "--templates", type=Path, metavar="FILE", help="a prompt a line, with {} (default: the 80)"
    )
    group.add_argument("--captions", type=Path, metavar="CSV", help="columns file and caption")
    group.add_argument(
        "--ways", type=positive, metavar="N", help="retrieval among N at a time (default: all)"
    )
    group.add_argument("--seed", type=seed, default=0, help="of what is drawn (default %(default)s)")
    add_generator(parser)
    add_size_rule(parser)
    add_model_options(parser, adapter=False)
    group = parser.add_argument_group("results")
    group.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of tables and page")
    group.add_argument("--overwrite", action="store_true", help="throw away what FOLDER holds of these tasks")
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    add_workers(group, "for what reads pictures or latents")
    remember_usual(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, and write the page."""
    from ..checkpoints.claims import claimed, lock_of
    from ..checkpoints.targets import check_folder, check_names

    check_names(options.out)
    _check(options)
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is a file; expected a folder")
    if options.inputs and not makes(options, options.task):
        _check_inputs(options)
    model = source_of(options).load()
    check_folder(options.out)
    with claimed(options.out, lock_of(options.out)):
        return _measure(options, model)


def _measure(options: argparse.Namespace, model: LatentCLIP) -> int:
    from ..evaluation.results import write_results

    results = [
        _carry_out(options, task, model) for task in (TASKS if options.task == "all" else [options.task])
    ]
    page = write_results(options.out, results)
    for result in results:
        print(result.title)
        for row in result.rows:
            paper = f", paper {row.paper:g} %" if row.paper is not None else ""
            print(f"  {row.what}: {row.text}, n = {row.ours.n}{paper}")
        for note in [*result.remarks, *result.notes]:
            print(f"evaluate: {result.task}: {note}", file=sys.stderr)
    print(f"written to {page}", file=sys.stderr)
    return 1 if any(result.notes for result in results) else 0


def _check_inputs(options: argparse.Namespace) -> None:
    """What is not there is said before the model is loaded, and its texts encoded."""
    from ..data.finding import find_shards
    from ..data.samples import LATENTS, PICTURE

    out = options.out.resolve()
    for path in options.inputs if options.vae else ():
        if path.is_dir() and out.is_relative_to(path.resolve()):
            raise ValueError(
                f"--out {options.out} lies in the input {path}: its pictures would be read as input; give "
                "another folder"
            )
    try:
        next(find_shards(options.inputs, 1, (PICTURE,) if options.vae else (LATENTS,)), None)
    except ValueError as error:
        if not options.vae and _holds_pictures(options.inputs):
            raise ValueError(
                f"{error}. It holds pictures; name the VAE to encode them with by --vae"
            ) from error
        raise


def _holds_pictures(paths: list[Path]) -> bool:
    from ..data.finding import find_shards
    from ..data.samples import PICTURE

    try:
        return next(find_shards(paths, 1, (PICTURE,)), None) is not None
    except (ValueError, OSError):
        return False


def _check(options: argparse.Namespace) -> None:
    check_generator(options)
    if options.mini and (options.inputs or options.vae):
        raise ValueError("--mini brings its own pictures and VAE; give neither, or --model in its place")
    if not options.mini and not options.inputs:
        raise ValueError("there is nothing to read: name pictures with --vae, or latents, after the task")
    if not options.mini and options.task == "all":
        raise ValueError(
            "all is for --mini; other tasks read inputs of their own: name one of " + ", ".join(TASKS)
        )
    check_settings(options)


def _carry_out(options: argparse.Namespace, task: str, model: LatentCLIP) -> TaskResult:
    if makes(options, task):
        return generate(options, task, model)
    from ..evaluation.bias_given import bias_of
    from ..evaluation.classes import find_classes
    from ..evaluation.items import read_captions
    from ..evaluation.tasks import imagenet, retrieval

    paths, classes, templates = _inputs(options, task)
    if task == "imagenet":
        found = find_classes(paths, classes, templates)
        return _with_bar(options, task, paths, model, lambda setup: imagenet(setup, found))
    captions = read_captions(options.captions) if options.captions else None
    if task == "bias":
        asked = concepts_of(options, options.concepts)
        return _with_bar(options, task, paths, model, lambda setup: bias_of(setup, asked, captions))
    ways = options.ways
    return _with_bar(options, task, paths, model, lambda setup: retrieval(setup, captions, ways))


def _inputs(options: argparse.Namespace, task: str) -> tuple[list[Path], Path | None, Path | None]:
    if not options.mini:
        return options.inputs, options.classes, options.templates
    from ..mini.evaluation import write_captioned, write_classes

    folder = options.out / "mini-world"
    if task == "retrieval":
        return [write_captioned(folder, seed=options.seed) / "captioned"], None, None
    write_classes(folder, options.seed)
    return [folder / "pictures"], folder / "classes.txt", folder / "templates.txt"


def _with_bar(
    options: argparse.Namespace, task: str, paths: list[Path], model: LatentCLIP, measure: Any
) -> Any:
    from ..evaluation.items import Inputs
    from ..evaluation.pictures import PictureToLatents
    from ..evaluation.tasks import Setup
    from ..evaluation.workers import Crew

    vae = "mini" if options.mini else options.vae
    device = str(next(model.parameters()).device)
    encoder = PictureToLatents.for_model(vae, model.config, device, options.seed) if vae else None
    inputs = Inputs(tuple(paths), encoder, options.latent_key)
    with progress(options, f" of {task}") as bar:
        setup: Setup = Setup(
            model,
            inputs,
            options.out,
            options.batch,
            options.size_rule,
            options.seed,
            options.overwrite,
            bar.update,
            Crew(source_of(options), options.workers, options.engine),
        )
        return measure(setup)
