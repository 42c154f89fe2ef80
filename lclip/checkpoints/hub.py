"""Models by their name on the hub: found in its cache, and downloaded only when asked to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..model.latent_clip import LatentCLIP
from .checkpoint import load

TRAINED = "checkpoints/epoch_34.pt"
RELEASED = {
    "b-8": "wendlerc/latent-clip-b-8-512-34b-80k",
    "b-4-plus": "wendlerc/latent-clip-b-4-512-plus-34b-80k",
}
"""Repositories that the paper's authors released, by short name. Their files hold optimizers: about 2 GB."""
WANTED = ("config.json", "*.safetensors", "*.safetensors.index.json")
"""Of another repository, laid out for transformers or with a single file."""


def pretrained(
    name: str,
    download: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    size_rule: str | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> LatentCLIP:
    """Load a model by its name on the hub, from the local cache, frozen and in eval mode.

    name: "b-8" or "b-4-plus", the released ones, or OWNER/NAME of any repository with one Latent-CLIP.
    download: fetch what is not in the cache; False touches no network. revision: a branch, tag or commit;
    cache_dir: None is huggingface_hub's own. device, dtype, size_rule: as for `load`, whose reader runs
    nothing that a file says. Needs the package huggingface_hub. Raises ValueError for a name that there is
    not, FileNotFoundError for what is not in the cache, OSError without a network, CheckpointError.
    """
    return load(find_pretrained(name, download, revision, cache_dir), device, dtype, size_rule=size_rule)


def find_pretrained(
    name: str,
    download: bool = False,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """The file or folder of `pretrained` on this machine."""
    hub, repository = _hub(), repository_named(name)
    settings: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir}
    with _plainly(hub, name, repository, download):
        if repository in RELEASED.values():
            path = hub.hf_hub_download(repository, TRAINED, local_files_only=not download, **settings)
        else:
            path = hub.snapshot_download(
                repository, allow_patterns=list(WANTED), local_files_only=not download, **settings
            )
    return Path(path)


def repository_named(name: str) -> str:
    """OWNER/NAME of a short name, or of itself. Raises ValueError."""
    if name in RELEASED:
        return RELEASED[name]
    owner, _, rest = name.partition("/")
    if not owner or not rest or "/" in rest or name.strip() != name or name.startswith("."):
        known = ", ".join(map(repr, RELEASED))
        raise ValueError(f"the name is {name!r}; expected {known}, or OWNER/NAME of a repository on the hub")
    return name


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ValueError(
            "models by name need the package huggingface_hub (pip install 'latent-clip[hub]'); or download "
            "the file yourself and give its path to lclip.load"
        ) from error
    return huggingface_hub


def _first_line(error: Exception) -> str:
    """What happened; the advice that the hub's package writes below it is of its own options."""
    return str(error).strip().partition("\n")[0]


@contextmanager
def _plainly(hub: Any, name: str, repository: str, download: bool) -> Iterator[None]:
    """The hub's errors in a line each."""
    wrong = hub.errors
    try:
        yield
    except wrong.HFValidationError as error:
        raise ValueError(f"{repository!r} is no name of a repository: {_first_line(error)}") from error
    except wrong.GatedRepoError as error:
        raise ValueError(f"{repository} is closed to you; ask for access there, then log in") from error
    except wrong.LocalEntryNotFoundError as error:
        if download:
            raise OSError(
                f"{repository} is not in the cache, and the hub cannot be reached: {_first_line(error)}"
            ) from error
        raise FileNotFoundError(
            f"{repository} is not in the cache, and nothing is downloaded unasked: "
            f"lclip.pretrained({name!r}, download=True), or download the file yourself and give its path to "
            "lclip.load"
        ) from error
    except (wrong.RepositoryNotFoundError, wrong.RevisionNotFoundError, wrong.EntryNotFoundError) as error:
        what = (
            "such a revision"
            if isinstance(error, wrong.RevisionNotFoundError)
            else "such a file or repository"
        )
        raise ValueError(f"{repository}: the hub has no {what}, or not for you; look up the name") from error
    except (wrong.HfHubHTTPError, wrong.OfflineModeIsEnabled, OSError) as error:
        raise OSError(f"{repository} could not be downloaded: {error}") from error
