"""Which files in a folder are a model: as transformers saves one, or as a hub repository's snapshot lies."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
OTHERS = ("pytorch_model.bin",)
LONGEST_JSON = 32 << 20  # bytes
PLACES = (".", "checkpoints")
"""Where a repository has the file of a training run, such as checkpoints/epoch_34.pt."""
SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class ModelFolder:
    """A folder that holds one model."""

    files: tuple[Path, ...]
    """With its weights."""
    about: dict[str, Any] | None = field(default=None)
    """Its config.json where it is laid out for transformers; None: a file that says all by itself."""


def open_folder(folder: Path) -> ModelFolder:
    """Find the model in a folder. Raises FileNotFoundError, CheckpointError."""
    folder = _snapshot(folder)
    if (folder / CONFIG).exists() and (files := _saved_by_transformers(folder)):
        return ModelFolder(files, read_json(folder / CONFIG))
    return ModelFolder((_only_file(folder),))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file. Raises FileNotFoundError, CheckpointError."""
    present(path)
    if path.stat().st_size > LONGEST_JSON:
        raise CheckpointError(f"{path} has {path.stat().st_size} bytes; expected a short description as JSON")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}; download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected an object")
    return content


def present(path: Path) -> Path:
    """A file that is there. FileNotFoundError tells a link that leads nowhere from nothing at all."""
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(
            f"{path} is a link to {path.readlink()}, which is not there; download it again"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return path


def _snapshot(folder: Path) -> Path:
    """In the hub's cache a repository's folder holds snapshots; the one that `main` names is meant."""
    main, snapshots = folder / "refs" / "main", folder / "snapshots"
    if not (main.is_file() and snapshots.is_dir()):
        return folder
    name = main.read_text(encoding="utf-8").strip()
    if Path(name).name != name or not (snapshots / name).is_dir():
        raise FileNotFoundError(f"{folder}: there is no snapshot {name!r:.60}; download the repository again")
    return snapshots / name


def _saved_by_transformers(folder: Path) -> tuple[Path, ...]:
    if (folder / INDEX).exists():
        return _shards(folder)
    named = (folder / name for name in (WEIGHTS, *OTHERS))
    return next(((present(path),) for path in named if path.is_symlink() or path.exists()), ())


def _shards(folder: Path) -> tuple[Path, ...]:
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(
            f"{folder / INDEX}: weight_map is {type(places).__name__}; expected files by name"
        )
    names = sorted({str(name) for name in places.values()})
    if odd := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{folder / INDEX} names {odd[0]!r:.60}; expected files beside it")
    return tuple(present(folder / name) for name in names)


def _only_file(folder: Path) -> Path:
    found = [
        path
        for place in PLACES
        if (folder / place).is_dir()
        for path in sorted((folder / place).iterdir())
        if path.suffix in SUFFIXES and not path.is_dir()
    ]
    if not found:
        raise CheckpointError(
            f"{folder} is a folder without a model; expected {CONFIG} and {WEIGHTS}, or one "
            f"{' or '.join(SUFFIXES)} in it or in its folder {PLACES[1]}"
        )
    if len(found) > 1:
        raise CheckpointError(
            f"{folder} holds {len(found)} files that may be models, such as {found[0].name} and "
            f"{found[1].name}; name the one that is meant"
        )
    return present(found[0])
