"""A tiny Latent-CLIP in a file, latents in files and shards, and commands: for the tests of the shell."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import safety_worlds

import lclip
from lclip.commands import main

ROOT = Path(lclip.__file__).parents[1]


@cache
def model():
    """4 channels, 8x8 cells, a dozen words."""
    return safety_worlds.tiny_clip()


def pictures(number, seed=1, **other):
    """Latents [number, 4, 8, 8] of raw scale."""
    return safety_worlds.pictures(number, seed, **other)


def save_model(folder: Path) -> Path:
    return lclip.save_checkpoint(model(), folder / "tiny.safetensors")


def npy(z) -> bytes:
    file = io.BytesIO()
    np.save(file, z.numpy())
    return file.getvalue()


def write_tar(path: Path, members) -> Path:
    """members: pairs of a name and bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_shard(path: Path, z, caption="a photo of {}") -> Path:
    """A sample of every latent, with a caption."""
    members = []
    for index, latents in enumerate(z):
        words = ("blood", "arm", "statue")[index % 3]
        members += [(f"{index:05}.npy", npy(latents)), (f"{index:05}.txt", caption.format(words).encode())]
    return write_tar(path, members)


def write_files(folder: Path, z) -> Path:
    """A .npy of every latent."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, latents in enumerate(z):
        (folder / f"{index:05}.npy").write_bytes(npy(latents))
    return folder


def run(*arguments) -> int:
    """A command in this process; its exit code."""
    return main([str(argument) for argument in arguments])


def start(*arguments, **other) -> subprocess.Popen:
    """A command in a process of its own, from another folder than the library's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lclip", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A process of a shell's background would hand down that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, env=environment, text=True, **{**pipes, **other})
    finally:
        signal.signal(signal.SIGINT, before)


def shell(*arguments, **other) -> subprocess.CompletedProcess:
    """The same, waited for."""
    with start(*arguments, **other) as process:
        out, err = process.communicate(timeout=1200)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def read_csv(source) -> list[dict[str, str]]:
    """Rows of a file, or of what was printed."""
    text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    return list(csv.DictReader(io.StringIO(text)))


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
