"""`python -m lclip adapter`: a Latent-CLIP for another VAE's latents, learnt from pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .many import progress
from .options import add_latent_key, add_model_options, source_of
from .parsing import add_command, positive, small_seed

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapters.encoding import EncodedPictures
    from ..model.latent_clip import LatentCLIP

CHUNK = 16  # pictures that are encoded at once


def add_to(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "adapter",
        run,
        """
        Train a latent adapter: a Latent-CLIP then reads another VAE's latents.
        It learns from pictures that both VAEs have encoded, without captions: 500 to 2,000, as varied as what
        will be read. Give --pictures with --vae and --own-vae; or --other and --own, which are files or
        folders of latents of the same pictures in the same order, such as VAE Encode and SaveLatent make them
        in ComfyUI. With --mini the mini world and its 16-channel twin are the two sides, and --scenes draws
        the pictures.

        Use the result with --adapter in the other commands, with lclip.apply_adapter, or in ComfyUI, from
        models/latent_clip_adapters. An interrupt (Ctrl-C) writes the best so far.
        """,
        """
        python -m lclip adapter --model latent-clip-b-8.safetensors --space flux --other flux-latents \\
            --own sdxl-latents --out flux-to-sdxl.safetensors
        python -m lclip adapter --mini --scenes 500 --out twin.safetensors
        """,
    )
    group = parser.add_argument_group("pictures")
    group.add_argument("--space", metavar="NAME", help="which latents the other ones are: flux, sd1.5, ...")
    group.add_argument("--pictures", type=Path, metavar="FOLDER", help="pictures to learn from")
    group.add_argument("--scenes", type=positive, metavar="N", help="draw so many scenes of the mini world")
    kinds = ": mini, mini-16, or what diffusers loads (a folder, a repository)"
    group.add_argument("--vae", metavar="VAE", help="whose latents shall be read" + kinds)
    group.add_argument("--own-vae", metavar="VAE", help="the one that the model was trained on")
    group.add_argument("--other", type=Path, metavar="INPUT", help="latents of the VAE that shall be read")
    group.add_argument("--own", type=Path, metavar="INPUT", help="latents of the model's own VAE")
    add_latent_key(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="NEW", help="a .safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace NEW if it exists")
    parser.add_argument("--steps", type=positive, metavar="N", help="of training; the default does for most")
    parser.add_argument("--seed", type=small_seed, default=0, help="default %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_model_options(parser, adapter=False)


def run(options: argparse.Namespace) -> int:
    """Gather the pictures, train, write, and say how good it is."""
    from ..adapters.files import save_adapter
    from ..adapters.training import AdapterSettings, AdapterTraining
    from ..checkpoints.targets import written_somewhere
    from ..checkpoints.tensors import check_target
    from ..latents.spaces import space_named

    check_target(options.out)
    if options.out.exists() and not options.overwrite:
        raise ValueError(f"{options.out} exists already; give another name, or --overwrite to replace it")
    _complete(options)
    space, model = space_named(options.space), source_of(options).load()
    pictures = _of_latents(options) if options.other else _of_pictures(options, model)
    given = {} if options.steps is None else {"steps": options.steps}
    settings = AdapterSettings(seed=options.seed, batch=options.batch, **given)
    training = AdapterTraining(model, space, pictures, settings, model.positional_embedding.device)
    try:
        with progress(options, " steps", settings.steps) as bar:
            for step in training:
                bar.set_postfix_str(f"cosine {step.cosine:.4f} on held-out pictures", refresh=False)
                bar.update()
    finally:
        if training.step:
            adapter = training.result()
            _, place = written_somewhere(lambda path: save_adapter(adapter, path), options.out)
            print(f"{adapter.describe()}\nwritten to {place}")
    return 0


def _complete(options: argparse.Namespace) -> None:
    """Fill in what --mini says, and refuse what is neither of the two ways."""
    if options.mini and not options.other:
        options.space = options.space or "mini-16"
        options.vae, options.own_vae = options.vae or "mini-16", options.own_vae or "mini"
    pictures = (options.pictures is not None) + (options.scenes is not None)
    by_latents = options.other and options.own and not pictures
    by_pictures = pictures == 1 and options.vae and options.own_vae and not options.other and not options.own
    if not by_latents and not by_pictures:
        raise ValueError(
            "give --pictures or --scenes, with --vae and --own-vae; or --other and --own, and none of these"
        )
    if not options.space:
        raise ValueError("name the other VAE's latents by --space, such as flux or sd1.5")


def _of_latents(options: argparse.Namespace) -> EncodedPictures:
    import torch

    from ..adapters.encoding import EncodedPictures

    other, own = (_read(path, options.latent_key) for path in (options.other, options.own))
    if len(other) != len(own):
        raise ValueError(
            f"{options.other} holds {len(other)} latents, {options.own} {len(own)}; expected those of the "
            "same pictures, in the same order"
        )
    return EncodedPictures(other, own, torch.arange(len(own)))


def _read(path: Path, latent_key: str | None) -> Tensor:
    """All latents of a file or folder, of one shape."""
    import torch

    from ..data.finding import find_shards
    from ..data.reader import read_all

    found: list[Tensor] = []
    for item in read_all(find_shards([path], 1), latent_key=latent_key):
        if item.latents is None:
            raise ValueError(f"{item.file} {item.item}: {item.problem}; expected latents of every picture")
        if found and item.latents.shape != found[0].shape:
            raise ValueError(
                f"{item.file} {item.item} has shape {list(item.latents.shape)}, others have "
                f"{list(found[0].shape)}; expected pictures of one size"
            )
        found.append(item.latents)
    if not found:
        raise ValueError(f"{path} holds no latents")
    return torch.stack(found)


def _of_pictures(options: argparse.Namespace, model: LatentCLIP) -> EncodedPictures:
    from math import lcm

    from ..adapters.encoding import encode_pictures
    from ..latents.spaces import space_named
    from ..training.vaes import load_encoder

    own = space_named(model.config.latent_space)
    device = model.positional_embedding.device
    other_vae, own_vae = (load_encoder(name, device) for name in (options.vae, options.own_vae))
    other_vae.check(space_named(options.space))
    own_vae.check(own)
    multiple = lcm(other_vae.factor, own_vae.factor)
    side = -(-model.config.native_size * own.factor // multiple) * multiple
    print("encoding the pictures with both VAEs", file=sys.stderr)
    batches = (batch.to(device) for batch in _pictures(options, side, multiple))
    return encode_pictures(batches, other_vae.encode, own_vae.encode)


def _pictures(options: argparse.Namespace, side: int, smallest: int) -> Iterator[Tensor]:
    """Batches [B, 3, side, side] in 0..1."""
    import torch

    from ..data.pictures import each_picture, find_pictures, in_batches

    if options.scenes is not None:
        from ..mini.drawing import render_batch, sample_scenes

        scenes = torch.from_numpy(render_batch(sample_scenes(options.scenes, options.seed)))
        yield from (scenes.permute(0, 3, 1, 2).float() / 255).split(CHUNK)
        return
    yield from in_batches(each_picture(find_pictures(options.pictures), side, smallest), CHUNK)
