"""Batches from shards: streamed, shuffled by seed, shared among ranks and workers, resumable at any batch.

Shards are read in blocks. Within a block samples pass through a shuffle buffer, which is emptied at its end.
So a place in the data is a block and a number, and going on from there reads at most one block again.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from ..data.reader import read_samples
from ..data.samples import Sample, Unusable
from ..data.shards import Shard
from ..data.tally import Tally

logger = logging.getLogger("latent-clip")

T = TypeVar("T")
Decode = Callable[[Sample], dict[str, Tensor]]
Batch = dict[str, Tensor]
PATIENCE = 2000  # samples that a reader tries before it gives up finding a usable one


@dataclass(frozen=True)
class StreamSettings:
    """How data is read. The order depends on all of it, and on how many ranks read."""

    batch_size: int  # of one rank
    shuffle: int = 4000  # raw samples in a reader's shuffle buffer; 0 keeps shards and samples in order
    block: int = 8  # shards that are shuffled together
    workers: int = 0  # processes that read for one rank; 0 reads in the training process
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.shuffle < 0 or self.block < 1 or self.workers < 0:
            raise ValueError(
                f"batch size {self.batch_size}, shuffle {self.shuffle}, block {self.block}, workers "
                f"{self.workers}; expected at least 1, 0, 1, 0"
            )


@dataclass
class Place:
    """How far a reader has come: passes over the data, blocks of this pass, raw samples of this block."""

    epoch: int = 0
    block: int = 0
    taken: int = 0
    good: int = 0  # usable samples of this pass
    skipped: dict[str, int] = field(default_factory=dict)  # of all passes


class Reader:
    """One of the readers that share the shards: an endless series of batches.

    With fewer shards than readers all read everything, and each keeps its share of the samples.
    """

    def __init__(
        self, shards: Sequence[Shard], decode: Decode, settings: StreamSettings, reader: int, readers: int
    ) -> None:
        self.shards, self.decode, self.settings = list(shards), decode, settings
        self.by_shard = len(shards) >= readers
        self.reader, self.readers = reader, readers

    def batches(self, place: Place) -> Iterator[tuple[Batch, Place]]:
        """Batches from a place on, each with the place after it. ValueError if a pass has nothing usable."""
        place, tally = copy.copy(place), Tally(counts=Counter(place.skipped))
        items: list[dict[str, Tensor]] = []
        while True:
            for item in self._pass(place, tally):
                items.append(item)
                if len(items) == self.settings.batch_size:
                    yield default_collate(items), replace(place, skipped=dict(tally.counts))
                    items = []
            place.epoch, place.block, place.good = place.epoch + 1, 0, 0

    def _pass(self, place: Place, tally: Tally) -> Iterator[dict[str, Tensor]]:
        """Usable samples from a place to the end of its pass; the place moves along."""
        blocks, tried = self._blocks(place.epoch), 0
        while place.block < len(blocks):
            for number, raw in self._raw(blocks[place.block], place, tally):
                place.taken, tried = number + 1, tried + 1
                try:
                    item = self.decode(raw)
                except Unusable as error:
                    tally.skip(error.reason, raw.key, error.detail)
                    if place.good == 0 and tried == PATIENCE:
                        raise self._nothing_usable(tally) from error
                    continue
                place.good += 1
                yield item
            place.block, place.taken = place.block + 1, 0
        if place.good == 0:
            raise self._nothing_usable(tally)

    def _nothing_usable(self, tally: Tally) -> ValueError:
        return ValueError(
            f"nothing usable was found in the data, {len(self.shards)} shards, the first being "
            f"{self.shards[0].name}; expected samples that can be trained on. Skipped: {tally.text()}"
        )

    def _blocks(self, epoch: int) -> list[list[Shard]]:
        """The shards of one pass that are this reader's, in blocks."""
        shards = list(self.shards)
        if self.settings.shuffle:
            random.Random(f"{self.settings.seed}/{epoch}").shuffle(shards)
        if self.by_shard:
            shards = shards[self.reader :: self.readers]
        size = self.settings.block
        return [shards[first : first + size] for first in range(0, len(shards), size)]

    def _raw(self, shards: list[Shard], place: Place, tally: Tally) -> Iterator[tuple[int, Sample]]:
        """This reader's raw samples of a block with their numbers, from the place on."""
        first = place.taken
        tally.muted = first > 0  # what lies before the place was counted already
        damage = tally if self.by_shard or self.reader == 0 else Tally(muted=True)
        whose = f"/{self.reader}" if self.by_shard else ""
        order = random.Random(f"{self.settings.seed}/{place.epoch}/{place.block}{whose}")
        everything = (raw for shard in shards for raw in read_samples(shard, damage))
        for number, raw in enumerate(shuffled(everything, self.settings.shuffle, order)):
            if number >= first and (self.by_shard or number % self.readers == self.reader):
                yield number, raw
            elif number == first - 1:
                tally.muted = False
        tally.muted = False


def shuffled(items: Iterable[T], size: int, order: random.Random) -> Iterator[T]:
    """Items in the order of a shuffle buffer: each new one takes the place of a random one, which leaves."""
    held: list[T] = []
    for item in items:
        if len(held) < size:
            held.append(item)
            continue
        index = order.randrange(size) if size else 0
        if size:
            item, held[index] = held[index], item
        yield item
    order.shuffle(held)
    yield from held


class StreamBatches:
    """The batches of one rank: as `loop.Batches` wants them, read by workers where the settings say so."""

    def __init__(
        self,
        shards: Sequence[Shard],
        decode: Decode,
        settings: StreamSettings,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.settings, self.rank, self.world = settings, rank, world
        per_rank = max(1, settings.workers)
        self.readers = [
            Reader(shards, decode, settings, rank * per_rank + number, world * per_rank)
            for number in range(per_rank)
        ]
        self.latent_key: str | None = getattr(decode, "latent_key", None)
        self.places = [Place() for _ in self.readers]
        self.given = 0
        self._iterator: Iterator[tuple[int, Batch, Place]] | None = None

    def batch(self, step: int) -> Batch:
        """The next batch; readers take turns."""
        if self._iterator is None:
            self._iterator = self._start()
        number, batch, self.places[number] = next(self._iterator)
        self.given += 1
        return batch

    @property
    def skipped(self) -> Counter[str]:
        """What this rank left out, by reason."""
        return sum((Counter(place.skipped) for place in self.places), Counter())

    def state(self) -> dict[str, Any]:
        return {
            "given": self.given,
            "layout": self._layout(),
            "places": [asdict(place) for place in self.places],
            "latent_key": self.latent_key,
        }

    def restore(self, states: list[Any], step: int) -> None:
        """Go on from where the ranks were; with other readers or data, with the next pass over the data.

        ValueError where other members were read as latents.
        """
        for state in states:
            if (was := state.get("latent_key")) != self.latent_key:
                raise ValueError(
                    f"the run was begun with --latent-key {was}, now it is {self.latent_key}; expected the "
                    "same. Pass the same, or begin elsewhere"
                )
        if len(states) == self.world and states[self.rank]["layout"] == self._layout():
            own = states[self.rank]
            self.given = own["given"]
            self.places = [Place(**place) for place in own["places"]]
            return
        passes = [place["epoch"] for state in states for place in state["places"]]
        logger.warning("the data or its readers are others than before: going on with a new pass over it")
        self.places = [Place(epoch=max(passes, default=-1) + 1) for _ in self.readers]

    def _layout(self) -> list[Any]:
        first = self.readers[0]
        names = hashlib.sha256("\n".join(shard.digest() for shard in first.shards).encode()).hexdigest()
        return [self.world, len(self.readers), names, *asdict(self.settings).values()]

    def _start(self) -> Iterator[tuple[int, Batch, Place]]:
        source = _Turns(self.readers, self.places, self.given % len(self.readers))
        if self.settings.workers == 0:
            return iter(source)
        return iter(DataLoader(source, batch_size=None, num_workers=self.settings.workers))


class _Turns(IterableDataset):
    """The batches of readers that take turns, from one of them on. A worker process runs one reader."""

    def __init__(self, readers: list[Reader], places: list[Place], first: int) -> None:
        self.readers, self.places, self.first = readers, places, first

    def __iter__(self) -> Iterator[tuple[int, Batch, Place]]:
        worker = get_worker_info()
        number = (self.first + (worker.id if worker else 0)) % len(self.readers)
        for batch, place in self.readers[number].batches(self.places[number]):
            yield number, batch, place
