"""The folders half of `host`: where models of each kind lie, by the host's own model paths."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths

from ...lclip.checkpoints.targets import check_folder, name_fault, written_somewhere

logger = logging.getLogger("latent-clip")

NOT_GIVEN = ""
"""A widget without a value, as that of an empty folder: the browser leaves it out."""


@dataclass(frozen=True)
class ModelFolder:
    """models/<key>, beside what extra_model_paths.yaml announces under that key.

    what: a file in it, as said to people. extensions: of the files that are listed.
    """

    key: str
    what: str
    extensions: frozenset[str]

    def register(self) -> None:
        """Announce the folder to the host, and make it where that is allowed."""
        default = os.path.join(folder_paths.models_dir, self.key)
        try:
            os.makedirs(default, exist_ok=True)
        except OSError as error:
            logger.warning("The folder %s cannot be made: %s", default, error)
        folder_paths.add_model_folder_path(self.key, default)
        folder_paths.folder_names_and_paths[self.key][1].update(self.extensions)  # a new key lists every file

    def files(self) -> list[str]:
        return folder_paths.get_filename_list(self.key)

    def path(self, name: str | None) -> str:
        """The full path of a file, or FileNotFoundError. A workflow from Windows may have "sub\\name"."""
        for spelled in (name, name.replace("\\", "/")) if name else ():
            if (path := folder_paths.get_full_path(self.key, spelled)) is not None:
                return path
        places = ", ".join(folder_paths.get_folder_paths(self.key))
        found = f"No file {name!r} in {places}" if name else f"No {self.what} is chosen from {places}"
        raise FileNotFoundError(f"{found}. Put the {self.what} there and refresh the browser.")

    def check(self, name: str | None) -> bool | str:
        """For a node's validate_inputs: True, or what is wrong with the name.

        A wired name comes as None: what it will be is not known yet. NOT_GIVEN is the default for a widget
        that has no value, as that of an empty folder.
        """
        try:
            return name is None or bool(self.path(name))
        except FileNotFoundError as error:
            return str(error)

    def state(self, name: str | None) -> str:
        """For a node's fingerprint_inputs: another text when the file under that name has changed.

        A wired name comes as None and is no reason to run again: what it is wired to would be.
        """
        if name is None:
            return "wired"
        try:
            status = os.stat(self.path(name))
        except OSError as error:
            return str(error)
        return f"{name}:{status.st_size}:{status.st_mtime_ns}"

    def places_for(self, name: str, extension: str) -> Iterator[Path]:
        """Where a file of that name may stand: the plain name first, then with a number added.

        The name may hold a folder within this one; ValueError for one that leads out of it, or that not every
        system takes.
        """
        root = Path(folder_paths.get_folder_paths(self.key)[0])
        plain = name.replace("\\", "/").removesuffix(extension)
        *above, stem = plain.split("/")
        files = (*above, f"{stem}{extension}" if stem.strip(" .") else "", f"{stem}_999{extension}")
        if (fault := next(filter(None, map(name_fault, files)), None)) is not None:
            shown = name if len(name) < 60 else f"{name[:60]}..."
            raise ValueError(
                f"the name is {shown!r}: {fault}; expected one like 'mine' or 'sub/mine', within {root}"
            )
        folder = root.joinpath(*above)
        for count in itertools.count(1):
            yield folder / f"{stem}{f'_{count}' if count > 1 else ''}{extension}"

    def new_place(self, name: str, extension: str) -> Path:
        """Where a new file of that name can be written now: nothing that is there is replaced.

        ValueError for a name as above, a folder that is read-only, a disk that is full: before any work.
        """
        path = next(path for path in self.places_for(name, extension) if not path.exists())
        check_folder(path.parent, (path.name,))
        return path

    def saved_as(self, name: str, extension: str) -> Iterator[Path]:
        """The files that were saved under that name so far: the plain one, then those with a number."""
        return itertools.takewhile(Path.exists, self.places_for(name, extension))


def saved(write: Callable[[Path], Any], path: Path) -> Path:
    """Write what was made at a cost: where it is wanted, or else in the host's output folder. Says where."""
    return written_somewhere(write, path, [Path(folder_paths.get_output_directory())])[1]


CHECKPOINTS = ModelFolder(
    "latent_clip", "checkpoint", frozenset({".safetensors", ".sft", ".pt", ".pth", ".ckpt", ".bin"})
)
TASTES = ModelFolder("latent_clip_tastes", "taste", frozenset({".safetensors", ".sft", ".pt", ".pth"}))
ADAPTERS = ModelFolder("latent_clip_adapters", "adapter", frozenset({".safetensors"}))
PREFERENCES = ModelFolder(
    "latent_clip_preferences", "preference model's folder, with its state_dict.pt", frozenset({".pt"})
)
FOLDERS = (CHECKPOINTS, TASTES, ADAPTERS, PREFERENCES)
