"""What `python -m lclip train` puts together from its options."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ..checkpoints.checkpoint import load
from ..checkpoints.targets import check_folder
from ..data.finding import find_shards
from ..data.reader import read_samples
from ..data.samples import LATENTS, PICTURE
from ..data.shards import Shard
from ..data.tally import Tally
from ..latents.spaces import require_space, space_named
from ..model.latent_clip import LatentCLIP
from ..training.data import StreamSettings
from ..training.loop import FitSettings
from ..training.objectives import TEACHER_PICTURE, VAE_PICTURE, LatentSource
from ..training.pixel_clips import PixelCLIP, read_pixel_clip
from ..training.ranks import Ranks
from ..training.recipe import Stage, Training, stages_of
from ..training.samples import Decoder
from ..training.towers import config_named, new_towers, recompute_activations, towers_from
from ..training.vaes import Encoder, load_encoder
from ..training.zero_shot import TEMPLATES, Evaluation, draw_samples, evaluation_of, read_classes, read_lines

ADAM_EPS = 1e-6  # as the released models were trained


def assemble(options: argparse.Namespace, ranks: Ranks) -> Training:
    """All parts of a run as the options want them. Raises ValueError, OSError."""
    _check(options)
    if ranks.first:
        check_folder(options.out, ("model.safetensors", "stage_1.pt", "metrics.csv"))
    pixel = None
    if options.pixel_clip is not None:
        pixel = read_pixel_clip(options.pixel_clip, options.activation, ranks.device)
    model = _model(options, pixel).to(ranks.device)
    if options.recompute:
        recompute_activations(model)
    vae = None if options.vae is None else load_encoder(options.vae, ranks.device)
    if vae is not None:
        vae.check(space_named(options.space))
    teacher = pixel if options.distil else None
    latents = LatentSource(model.config, ranks.device, None if vae is None else vae.encode)
    decode = _decoder(options, model, vae, teacher)
    return Training(
        model=model,
        stages=_stages(options),
        shards=_shards(options.data),
        decode=decode if options.distil else replace(decode, tokenizer=model.tokenizer),
        stream=StreamSettings(
            options.batch_size, options.shuffle, workers=options.workers, seed=options.seed
        ),
        latents=latents,
        folder=options.out,
        ranks=ranks,
        teacher=teacher,
        evaluation=_evaluation(options, model, decode, latents, teacher) if ranks.first else None,
        log_every=options.log_every,
        evaluate_every=options.eval_every,
    )


def _shards(sources: list[str]) -> list[Shard]:
    return list(find_shards(sources, holding=(LATENTS, PICTURE)))


def _check(options: argparse.Namespace) -> None:
    if options.distil and options.pixel_clip is None:
        raise ValueError("--distil needs a teacher; name it with --pixel-clip")
    if options.stage_one_steps is not None and (
        options.pixel_clip is None or options.latent_clip is not None
    ):
        raise ValueError("--stage-one-steps trains what is made anew; it needs --pixel-clip to begin from")
    if options.eval_classes is not None and options.eval_data is None:
        raise ValueError("--eval-classes needs data of these classes; name it with --eval-data")


def _model(options: argparse.Namespace, pixel: PixelCLIP | None) -> LatentCLIP:
    space = space_named(options.space)
    if options.latent_clip is not None:
        model = load(options.latent_clip)
        require_space(
            model.config.latent_space,
            space.name,
            str(options.latent_clip),
            "--space says",
            "Name its own space.",
        )
        return model
    if pixel is not None:
        return towers_from(pixel, space, options.latent_size, options.patch_size, options.seed)
    return new_towers(config_named(options.model, space), seed=options.seed)


def _stages(options: argparse.Namespace) -> list[Stage]:
    settings = FitSettings(
        steps=options.steps,
        learning_rate=options.learning_rate,
        warmup=options.warmup,
        weight_decay=options.weight_decay,
        ema_decay=options.ema,
        clip_norm=options.clip_norm,
        save_every=options.save_every,
        seed=options.seed,
        eps=ADAM_EPS,
        optimizer=options.optimizer,
        precision=options.precision,
    )
    first = None
    if options.stage_one_steps is not None:
        rate = options.stage_one_learning_rate
        first = replace(settings, steps=options.stage_one_steps, learning_rate=rate)
    return stages_of(settings, options.distil, first)


def _decoder(
    options: argparse.Namespace, model: LatentCLIP, vae: Encoder | None, teacher: PixelCLIP | None
) -> Decoder:
    """Latents or pictures as the run needs them, without captions."""
    side = model.config.native_size
    pictures = {} if vae is None else {VAE_PICTURE: side * vae.factor}
    if teacher is not None:
        pictures[TEACHER_PICTURE] = teacher.side
    latents = (model.config.channels, side, side) if vae is None else None
    return Decoder(latents=latents, pictures=pictures, latent_key=options.latent_key)


def _evaluation(
    options: argparse.Namespace,
    model: LatentCLIP,
    decode: Decoder,
    latents: LatentSource,
    teacher: PixelCLIP | None,
) -> Evaluation | None:
    if options.eval_data is None:
        return None
    shards = _shards(options.eval_data)
    names: tuple[str, ...] = ()
    if options.eval_classes is not None:
        labels, names = read_classes(options.eval_classes)
        decode = replace(decode, labels=labels)
    elif _captioned(shards):
        decode = replace(decode, tokenizer=model.tokenizer)
    templates = TEMPLATES if options.eval_templates is None else read_lines(options.eval_templates)
    items = draw_samples(shards, decode, options.eval_samples)
    return evaluation_of(items, latents, names, templates, teacher)


def _captioned(shards: list[Shard]) -> bool:
    """Whether the first sample has a caption."""
    first = next((raw for shard in shards for raw in read_samples(shard, Tally(muted=True))), None)
    return first is not None and first.text() is not None
