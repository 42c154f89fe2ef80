"""Asking a question of a stream of latents, batch by batch, in the order in which they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..data.items import LatentItem, one_line
from ..data.tally import Tally
from ..latents.checks import check_readable
from ..latents.scale import scale_doubts
from ..latents.siblings import sibling_doubts
from ..model.latent_clip import LatentCLIP
from ..model.text_doubts import text_doubts
from .questions import Question, Values

FAILED, BLOCKED, NOTED = "failed", "blocked", "noted"
"""What rows are counted as: their error is not empty; a policy does not call them safe, the failed ones
included; they have a note."""
AHEAD = 2  # windows that are read while the model works
T = TypeVar("T")


@dataclass
class Block:
    """Some rows of a table: a value for each row, by column."""

    values: Values = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values.get("file", ()))

    def tally(self) -> Tally:
        """What these rows add to the counts."""
        tally = Tally(len(self))
        for reason, column in ((FAILED, "error"), (NOTED, "note")):
            texts = self._texts(column)
            tally.count(reason, len(texts), *texts[:1])
        tally.count(BLOCKED, sum(safe is not True for safe in self.values.get("safe", ())))
        return tally

    def _texts(self, column: str) -> list[str]:
        """What a column says, and of which item; nothing for items of which it says nothing."""
        rows = zip(self.values["file"], self.values["item"], self.values[column], strict=True)
        return [f"{file} {item or ''}".strip() + f": {text}" for file, item, text in rows if text]


class Asker:
    """A question and the model that answers it."""

    def __init__(self, question: Question, model: LatentCLIP, batch: int):
        if batch < 1:
            raise ValueError(f"the batch size is {batch}; expected at least 1")
        self.question, self.model, self.batch = question, model, batch
        with torch.inference_mode():
            self.answer = question.answer(model)
        self.text_doubts = question.doubts(model)
        """What the model cannot read of the texts that every item is asked about."""

    @property
    def columns(self) -> list[str]:
        """Of every block, in the table's order."""
        return ["file", "item", *self.question.columns(), "note", "error"]

    def blocks(self, items: Iterable[LatentItem]) -> Iterator[Block]:
        """A block of rows for every batch of items; reading goes ahead while the model works."""
        for window in read_ahead(_windows(items, self.batch), AHEAD):
            yield self._block(window)

    def _block(self, window: list[LatentItem]) -> Block:
        errors = [item.problem or self._refusal(item) for item in window]
        rows: list[dict[str, Any]] = [{} for _ in window]
        for places in _by_shape(window, errors).values():
            z = torch.stack([tensor for place in places if (tensor := window[place].latents) is not None])
            with torch.inference_mode():
                answers = self.answer(z, [window[place].caption for place in places])
            for row, note in enumerate(self._notes(z)):
                values = {column: values[row] for column, values in answers.items()}
                told = [note, *self._of_texts(window[places[row]].caption)]
                rows[places[row]] = {"note": "; ".join(filter(None, told)) or None, **values}
        for item, row, error in zip(window, rows, errors, strict=True):
            row.update(file=item.file, item=item.item)
            if error:
                row.update(error=error, **self.question.without_answer(error))
            elif row.get("error"):
                row["note"] = None
        return Block({column: [row.get(column) for row in rows] for column in self.columns})

    def _refusal(self, item: LatentItem) -> str | None:
        """Why an item cannot be asked, or None."""
        if item.latents is None:
            return "there are no latents"
        try:
            check_readable(item.latents[None], self.model.config)
        except ValueError as error:
            return one_line(error).removeprefix("latents, batch item 0 of 1: ")
        if self.question.wants_captions and item.caption is None and item.caption_problem:
            return item.caption_problem
        return self.question.refusal(item.caption)

    def _of_texts(self, caption: str | None) -> list[str]:
        """What the model cannot read of the texts that an item is asked about."""
        if not self.question.wants_captions:
            return self.text_doubts
        return text_doubts(self.model, caption or "")

    def _notes(self, z: Tensor) -> list[str | None]:
        """What is odd about the scale or the space of items. A picture may look so too, so it is no error."""
        of_scale, of_space = (doubts(z, self.model.config) for doubts in (scale_doubts, sibling_doubts))
        return [scale or space for scale, space in zip(of_scale, of_space, strict=True)]


def read_ahead(things: Iterable[T], number: int) -> Iterator[T]:
    """The same things, up to that many of them fetched by another thread before they are wanted."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(number)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                return waiting.put((kind, value), timeout=0.2)
            except queue.Full:
                continue

    def fetch() -> None:
        try:
            for thing in things:
                put("thing", thing)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:  # it belongs to whoever asks for the next thing
            put("error", error)

    thread = threading.Thread(target=fetch, name="latent-clip-reader", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stopped.set()
        thread.join()


def _windows(items: Iterable[LatentItem], size: int) -> Iterator[list[LatentItem]]:
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def _by_shape(window: list[LatentItem], errors: list[str | None]) -> dict[torch.Size, list[int]]:
    """Places of the readable items, by the shape of their latents: what can be a batch."""
    places: dict[torch.Size, list[int]] = {}
    for place, (item, error) in enumerate(zip(window, errors, strict=True)):
        if item.latents is not None and error is None:
            places.setdefault(item.latents.shape, []).append(place)
    return places
