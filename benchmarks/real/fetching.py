"""Fetch the packages of pictures into a cache outside the tree; what is there is not fetched again."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .packages import PACKAGES, Package

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
PICTURE_STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp"}


def cache_folder() -> Path:
    """Where pictures and what is made of them lie: LATENT-CLIP's cache, or where LCLIP_PICTURES says."""
    named = os.environ.get("LCLIP_PICTURES")
    return Path(named) if named else Path.home() / ".cache" / "latent-clip" / "pictures"


def fetch(
    cache: Path,
    packages: Sequence[Package] = PACKAGES,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Fetch every package that is not there yet, and write LICENCES.txt. -> names that could not be had.

    A package is unpacked beside its place and then renamed, so one that was cut off is fetched anew.
    """
    missing = []
    (cache / "files").mkdir(parents=True, exist_ok=True)
    for package in packages:
        target = cache / "files" / package.name
        if not target.is_dir():
            say(f"fetching {package.name} ({package.registry}; {package.licence})")
            try:
                _fetch_one(package, target)
            except (OSError, subprocess.CalledProcessError, tarfile.TarError) as error:
                say(f"  not to be had: {error}")
                missing.append(package.name)
    (cache / "LICENCES.txt").write_text(licences(packages), encoding="utf-8")
    return missing


def licences(packages: Sequence[Package] = PACKAGES) -> str:
    """One line a package: registry, name, licence. Each package's own copyright file tells more."""
    lines = [f"{p.registry}\t{p.name}\t{p.licence}" for p in packages]
    return "\n".join(["# registry\tpackage\tlicence of its pictures", *lines, ""])


def _fetch_one(package: Package, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as part:
        folder = Path(part)
        unpacked = folder / "unpacked"
        unpacked.mkdir()
        if package.registry == "debian":
            options = ["-qq", "-o", "APT::Sandbox::User=root"]
            _call(["apt-get", *options, "download", package.name], folder)
            _call(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(unpacked)], folder)
        else:
            _call(["npm", "pack", "--silent", package.name], folder)
            with tarfile.open(next(folder.glob("*.tgz"))) as archive:
                archive.extractall(unpacked, filter="data")
        for resources in sorted(unpacked.rglob("*.rcc")):
            unpack_resources(resources)
        for icons in sorted(unpacked.rglob("icons.json")):
            unpack_icons(icons)
        shutil.move(unpacked, target)


def _call(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def unpack_resources(path: Path) -> int:
    """Write the pictures of a Qt resource file into a folder X.rcc.d beside it. -> how many there were."""
    written = 0
    for index, content in enumerate(_resources(path.read_bytes())):
        suffix = next((s for start, s in PICTURE_STARTS.items() if content.startswith(start)), None)
        if suffix:
            folder = path.with_name(f"{path.name}.d")
            folder.mkdir(exist_ok=True)
            (folder / f"{index:04d}{suffix}").write_bytes(content)
            written += 1
    return written


def unpack_icons(path: Path) -> int:
    """Write the drawings of an Iconify file into a folder X.json.d beside it. -> how many there were.

    The file has a set's width and height, and for each name a body of SVG, with a size of its own or none.
    """
    icons = json.loads(path.read_text(encoding="utf-8"))
    folder = path.with_name(f"{path.name}.d")
    folder.mkdir(exist_ok=True)
    for name, icon in icons["icons"].items():
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        head = f'<svg xmlns="{SVG}" xmlns:xlink="{XLINK}" viewBox="0 0 {width} {height}">'
        (folder / f"{name}.svg").write_text(f"{head}{icon['body']}</svg>", encoding="utf-8")
    return len(icons["icons"])


def _resources(data: bytes) -> Iterator[bytes]:
    """The contents in a Qt resource file: each a length of 4 bytes, big-endian, and so many bytes."""
    if len(data) < 20 or data[:4] != b"qres":
        return
    tree, start, names = struct.unpack(">3I", data[8:20])
    end = min((x for x in (tree, names, len(data)) if x > start), default=len(data))
    while start + 4 <= end:
        (length,) = struct.unpack(">I", data[start : start + 4])
        yield data[start + 4 : start + 4 + length]
        start += 4 + length
