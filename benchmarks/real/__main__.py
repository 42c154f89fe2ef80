"""`python -m benchmarks.real pictures` fetches and catalogues; `... encode PLAN SPACE SIZE` encodes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from . import catalogue, probe
from .encoded import PIXELS, encode_plan
from .fetching import cache_folder, fetch, licences
from .maps import PLANS as PLANS_OF_MAPS
from .maps import make
from .plans import Item, drawing_variants, interleaved, photo_crops
from .taesd import CAVEAT, FILES, TinyMissing

DRAWINGS = 16_000


def photographs_1024(pictures: list[catalogue.Picture]) -> list[Item]:
    """Crops of 1024 source pixels: for sizes of latents, at 1024, 768 and 512 px."""
    return photo_crops(pictures, 1024, 12, {"train": 260, "dev": 60, "test": 100})


def photographs_512(pictures: list[catalogue.Picture]) -> list[Item]:
    """Crops of 512 source pixels: for maps between spaces, at 256 px."""
    return photo_crops(pictures, 512, 6, {"train": 260, "dev": 60, "test": 100})


def drawings(pictures: list[catalogue.Picture]) -> list[Item]:
    """Named drawings on grounds: for a probe that retrieves them by name, at 256 px."""
    return drawing_variants(pictures, DRAWINGS)


def part(items: list[Item], train: int) -> list[Item]:
    """All of dev and test, and the first `train` of train."""
    chosen = [item for item in items if item.split == "train"][:train]
    return interleaved([item for item in items if item.split != "train"] + chosen)


PLANS: dict[str, Callable[[list[catalogue.Picture]], list[Item]]] = {
    "photographs-1024": photographs_1024,
    "photographs-1024-part": lambda pictures: part(photographs_1024(pictures), 120),
    "photographs-512": photographs_512,
    "drawings": drawings,
}


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pictures", help="fetch the packages, list their licences, catalogue what is in them")
    encode = commands.add_parser("encode", help=f"encode a plan's pictures, {CAVEAT}")
    encode.add_argument("plan", choices=PLANS)
    encode.add_argument("space", choices=(*FILES, PIXELS))
    encode.add_argument("size", type=int, help="pixels each way")
    encode.add_argument("--most", type=int, help="stop when so many items are there")
    commands.add_parser("probe", help="encode named drawings and train small Latent-CLIPs on them")
    maps = commands.add_parser("maps", help="learn the size map and the adapters that ship")
    maps.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(PLANS_OF_MAPS)}")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cache = cache_folder()
    if arguments.command == "pictures":
        fetch_and_catalogue(cache)
    elif arguments.command == "probe":
        train_probes(cache)
    elif arguments.command == "maps":
        learn_maps(cache, arguments.names)
    else:
        encode_some(cache, arguments)


def fetch_and_catalogue(cache: Path) -> None:
    """What `make pictures` does; without a network it catalogues what is there and says what is missing."""
    missing = fetch(cache, say=say)
    say(licences())
    pictures, skipped = catalogue.build(cache, say)
    say(catalogue.summary(pictures))
    say("left out: " + ", ".join(f"{number} {reason}" for reason, number in sorted(skipped.items())))
    if missing:
        say("not to be had: " + ", ".join(missing))
    say(f"{len(pictures)} pictures in {cache}")


def train_probes(cache: Path) -> None:
    """Train the probes, or say what is missing for it."""
    try:
        probe.make(cache, say)
        say(f"trained, {CAVEAT}")
    except FileNotFoundError:
        say(f"no pictures in {cache}; `make pictures` fetches them")
    except TinyMissing as missing:
        say(str(missing))


def learn_maps(cache: Path, names: list[str]) -> None:
    """Learn maps by name, all by default, or say what is missing for it."""
    try:
        for name in names or PLANS_OF_MAPS:
            say(f"written to {make(name, cache, say)}, {CAVEAT}")
    except FileNotFoundError:
        say(f"no pictures in {cache}; `make pictures` fetches them")
    except TinyMissing as missing:
        say(str(missing))


def encode_some(cache: Path, arguments: argparse.Namespace) -> None:
    """Encode a plan, or say what is missing for it."""
    try:
        items = PLANS[arguments.plan](catalogue.load(cache))
        where = (arguments.plan, items, arguments.space, arguments.size)
        done = encode_plan(cache, *where, most=arguments.most, say=say)
        say(f"{done} pictures encoded, {CAVEAT}")
    except FileNotFoundError:
        say(f"no pictures in {cache}; `make pictures` fetches them")
    except TinyMissing as missing:
        say(str(missing))


def say(text: str) -> None:
    """One line of progress, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
