"""`python -m lclip train`: a Latent-CLIP for any latent space, from scratch or from a pixel CLIP."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_latent_key
from .parsing import add_command, positive, small_seed


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "train",
        run,
        """
        Train a Latent-CLIP for a latent space, from scratch or from a pixel CLIP.
        DATA are tar shards in WebDataset's layout (KEY.latent.pt or KEY.npy, and KEY.txt) or folders of such
        files; with --vae also pictures (KEY.png, .jpg, .webp), with or without KEY.txt. A key ends at the
        first dot of a name. Names may hold {000..099} and *, and pipe:COMMAND reads what a shell command
        writes. Samples that cannot be used are skipped and counted.

        The same command again goes on from the last checkpoint in RUN. Under torchrun the processes train
        together: torchrun --nproc-per-node 8 -m lclip train ... Exit code: 0.
        """,
        """
        python -m lclip train --data pictures/ --vae madebyollin/sdxl-vae-fp16-fix --space sdxl \\
            --pixel-clip open_clip_model.safetensors --distil --stage-one-steps 2000 --steps 20000 --out run/
        """,
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA", help="what to learn from")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    _add_start(parser)
    _add_data(parser)
    _add_schedule(parser)
    _add_evaluation(parser)


def _add_start(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is trained")
    group.add_argument(
        "--pixel-clip",
        type=Path,
        metavar="CLIP",
        help="begin as this CLIP that reads pictures: a file or folder of open_clip or of transformers",
    )
    group.add_argument(
        "--latent-clip", type=Path, metavar="FILE", help="begin as this Latent-CLIP, all its weights kept"
    )
    group.add_argument(
        "--model",
        default="b-8",
        help="from scratch: b-8, b-4-plus, or a JSON of a config (default %(default)s)",
    )
    group.add_argument(
        "--distil",
        action="store_true",
        help="learn the embeddings of --pixel-clip from pictures, without captions",
    )
    group.add_argument("--space", default="sdxl", help="the latent space by name (default %(default)s)")
    group.add_argument(
        "--latent-size",
        type=positive,
        default=64,
        metavar="CELLS",
        help="side of the latents, with --pixel-clip (default %(default)s)",
    )
    group.add_argument(
        "--patch-size",
        type=positive,
        metavar="CELLS",
        help="side of a patch, with --pixel-clip (default: as many tokens as it has, or nearly)",
    )
    group.add_argument(
        "--activation",
        choices=("gelu", "quick_gelu"),
        help="of --pixel-clip, where no config beside it says; weights from OpenAI need quick_gelu",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--vae",
        help="encode pictures with this VAE: mini, mini-16, or what diffusers' AutoencoderKL loads "
        "(default: the data holds latents)",
    )
    add_latent_key(parser)
    group.add_argument(
        "--batch-size", type=positive, default=256, help="samples of one process (default %(default)s)"
    )
    group.add_argument(
        "--shuffle", type=int, default=4000, help="samples in the shuffle buffer (default %(default)s)"
    )
    group.add_argument("--workers", type=int, default=0, help="processes that read (default %(default)s)")


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("schedule")
    group.add_argument("--steps", type=positive, required=True, help="with all weights trained")
    group.add_argument("--learning-rate", type=float, default=5e-4, help="at its peak (default %(default)s)")
    group.add_argument(
        "--stage-one-steps",
        type=positive,
        help="before, with --pixel-clip: steps for patch embedding and positions alone (default: none)",
    )
    group.add_argument(
        "--stage-one-learning-rate", type=float, default=1e-3, help="their peak (default %(default)s)"
    )
    group.add_argument(
        "--warmup", type=int, default=500, help="steps of rising learning rate (default %(default)s)"
    )
    group.add_argument(
        "--optimizer",
        choices=("adamw", "muon"),
        default="adamw",
        help="muon: for the matrices inside; the rest stays with AdamW (default %(default)s)",
    )
    group.add_argument("--weight-decay", type=float, default=0.2, help="of matrices (default %(default)s)")
    group.add_argument("--clip-norm", type=float, default=1.0, help="of the gradient (default %(default)s)")
    group.add_argument(
        "--ema", type=float, metavar="DECAY", help="keep an average of the weights, such as 0.9995"
    )
    group.add_argument("--seed", type=small_seed, default=0, help="of weights, order and noise (default 0)")
    group.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the maths (default %(default)s)",
    )
    group.add_argument(
        "--recompute", action="store_true", help="less memory, more time: compute activations twice"
    )
    group.add_argument("--device", default="auto", help="a torch device (default: the accelerator, or cpu)")
    group.add_argument(
        "--save-every", type=positive, default=500, help="steps between checkpoints (default %(default)s)"
    )


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("figures, in RUN/metrics.csv and for TensorBoard where it is installed")
    group.add_argument("--log-every", type=positive, default=50, help="steps (default %(default)s)")
    group.add_argument("--eval-data", nargs="+", metavar="DATA", help="held-out data of the same kind")
    group.add_argument("--eval-every", type=positive, help="steps (default: at the end of each stage)")
    group.add_argument(
        "--eval-samples", type=positive, default=2000, help="drawn from it (default %(default)s)"
    )
    group.add_argument(
        "--eval-classes",
        type=Path,
        metavar="FILE",
        help="zero-shot classes, one a line, as the data says them in KEY.cls or by folders' names; "
        "LABEL<tab>TEXT where texts differ from labels. Without it captions are retrieved",
    )
    group.add_argument(
        "--eval-templates", type=Path, metavar="FILE", help="sentences with {} for the class, one a line"
    )


def run(options: argparse.Namespace) -> int:
    """Train; the same command again goes on."""
    import logging

    from ..training.ranks import joined_ranks
    from .train_parts import assemble

    logging.getLogger("latent-clip").setLevel(logging.INFO)
    with joined_ranks(options.device) as ranks:
        try:
            assemble(options, ranks).run()
        except FloatingPointError as error:
            raise ValueError(str(error)) from error
        if ranks.first:
            print(f"{options.out / 'model.safetensors'} is done")
    return 0
