"""Judges of pixels that a user names: image classifiers of transformers, and diffusers' safety checker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..checkpoints.folders import read_json

UNSAFE = ("nsfw", "unsafe", "porn", "hentai", "sexy", "inappropriate")
"""Labels that count as unsafe where nobody says which."""
CHECKER = "StableDiffusionSafetyChecker"
Unsafe = Callable[[Image.Image], bool]


def open_classifier(folder: Path, labels: Sequence[str] = (), device: str = "cpu") -> tuple[Unsafe, str]:
    """A classifier from a folder on this machine: whether a picture is unsafe, and its name with a hash.

    folder: of an image classifier of transformers, or of diffusers' safety checker. labels: those of the
    classifier that count as unsafe: a picture is, where their probabilities add up to half or more. Raises
    FileNotFoundError, ValueError.
    """
    config = config_of(folder)
    told = read_json(config)
    named = f"{folder.name} {hashlib.sha256(config.read_bytes()).hexdigest()[:12]}"
    if CHECKER in (told.get("architectures") or ()):
        return _checker(folder, device), named
    try:
        numbers = {str(label): int(number) for number, label in (told.get("id2label") or {}).items()}
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"{config}: id2label is {told['id2label']!r:.60}; expected labels by number"
        ) from error
    found = _unsafe_labels(folder, numbers, labels)
    chosen = ", ".join(sorted(found))
    return _classifier(folder, list(found.values()), device), f"{named} ({chosen})"


def config_of(folder: Path) -> Path:
    """The configuration of a classifier. FileNotFoundError for a folder without one."""
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(
            f"{folder} is no classifier: there is no config.json in it; expected a folder of transformers' "
            f"image classification, or of diffusers' {CHECKER}"
        )
    return config


def packages_of(folder: Path) -> tuple[str, ...]:
    """What computes with that classifier."""
    checker = CHECKER in (read_json(folder / "config.json").get("architectures") or ())
    return ("transformers", "diffusers") if checker else ("transformers",)


def _unsafe_labels(folder: Path, numbers: dict[str, int], labels: Sequence[str]) -> dict[str, int]:
    lower = {name.lower(): name for name in numbers}
    wanted = [label.lower() for label in labels] or [name for name in UNSAFE if name in lower]
    missing = [label for label in wanted if label not in lower]
    if missing or not wanted:
        raise ValueError(
            f"the classifier {folder.name} has the labels {', '.join(numbers) or 'none'}; "
            f"{missing[0] + ' is not among them' if missing else 'which are unsafe?'} Give --unsafe-labels"
        )
    return {lower[label]: numbers[lower[label]] for label in wanted}


def _transformers() -> Any:
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("a classifier needs transformers: pip install 'latent-clip[diffusers]'") from error
    return transformers


def _classifier(folder: Path, unsafe: list[int], device: str) -> Unsafe:
    transformers, kind = _transformers(), {"local_files_only": True}
    model = transformers.AutoModelForImageClassification.from_pretrained(folder, use_safetensors=True, **kind)
    prepare = transformers.AutoImageProcessor.from_pretrained(folder, **kind)
    model = model.to(device).eval()

    def is_unsafe(picture: Image.Image) -> bool:
        given = prepare(images=picture, return_tensors="pt").to(device)
        with torch.inference_mode():
            shares = model(**given).logits.softmax(-1)[0]
        return not float(shares[unsafe].sum()) < 0.5  # what is no number is not safe

    return is_unsafe


def _checker(folder: Path, device: str) -> Unsafe:
    """The safety checker of SD 1.5: its pictures are compared with concepts by a CLIP."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    transformers, kind = _transformers(), {"local_files_only": True}
    checker: Any = StableDiffusionSafetyChecker.from_pretrained(
        folder, use_safetensors=True, local_files_only=True
    )
    beside = folder.parent / "feature_extractor"
    place = beside if (beside / "preprocessor_config.json").is_file() else folder
    prepare: Any = transformers.CLIPImageProcessor()
    if (place / "preprocessor_config.json").is_file():
        prepare = transformers.CLIPImageProcessor.from_pretrained(place, **kind)
    checker = checker.to(device).eval()

    def is_unsafe(picture: Image.Image) -> bool:
        given = prepare(picture, return_tensors="pt").pixel_values.to(device)
        with torch.inference_mode():
            return bool(checker(clip_input=given, images=torch.zeros(1, 1, 1, 3).numpy())[1][0])

    return is_unsafe
