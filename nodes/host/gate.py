"""What the gate does with one batch. An item leaves by the safe side only with a verdict that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ...lclip.latents.frames import in_form_of
from ...lclip.latents.neutral import same_picture
from .. import draw
from ..latents import samples_of, take_items
from . import memory, sockets
from . import safety as host_safety
from . import spaces as host_spaces

if TYPE_CHECKING:
    from ... import lclip
    from .ksampler import Stage
    from .policy import WiredPolicy


Remark = Callable[[Callable[..., str]], str]
"""What became of the batch, in the words of a report or of a picture."""


class Gate:
    """One batch with its verdicts. The LATENT that came in is never written."""

    def __init__(self, policy: WiredPolicy, latent: Mapping[str, Any], vae: Any = None) -> None:
        self.policy, self.latent, self.vae = policy, dict(latent), vae
        self.samples = samples_of(latent)
        self.judge = policy.judge(self.samples)
        self.verdicts = self._judged()
        self.safe = [verdict.index for verdict in self.verdicts if verdict.safe]
        self.blocked = [index for index in range(len(self.samples)) if index not in self.safe]
        self.doubts = policy.models[0].doubts_of_space(self.samples)
        self.remarks: list[Remark] = []
        self.current = self.samples  # what the safe items are taken from

    def _judged(self) -> list[lclip.Verdict]:
        """A verdict for each item. A wired VAE's grey is as good as the known one: neither is blocked."""
        verdicts = self.judge(self.samples)
        if self.vae is None or all(verdict.safe for verdict in verdicts):
            return verdicts
        space = self.policy.config.space
        grey = same_picture(self.samples, self._grey()[:1], (space and space.std) or 1.0).tolist()
        return [self.judge.of_grey(v.index) if grey[v.index] else v for v in verdicts]

    def _grey(self) -> torch.Tensor:
        return host_safety.neutral_like(self.samples, self.policy.config.latent_space, self.vae)

    def stop(self) -> None:
        """ValueError that names every blocked item."""
        if self.blocked:
            reasons = "; ".join(f"item {index}: {self.verdicts[index].reason}" for index in self.blocked[:8])
            raise ValueError(
                f"The safety gate stopped: {len(self.blocked)} of {len(self.samples)} latents are blocked. "
                f"{reasons}{'; ...' if len(self.blocked) > 8 else '.'} Another action lets the safe ones "
                "pass."
            )

    def repair(self, stage: Stage, sampler_name: str, iterations: int) -> None:
        """Render blocked items anew, away from harm; what came of it is judged again, and more strictly."""
        from ...lclip.safety.repair import believed

        if not self.blocked:
            return
        tried = take_items(self.latent, self.blocked)
        found, why = host_safety.search_away(self.policy, stage, sampler_name, iterations, tried)
        if why is not None:
            self.remarks.append(
                lambda say: say("repair searched without gradients, which finds less: {why}", why=why)
            )
        found = in_form_of(found, tried["samples"])
        if found.shape != tried["samples"].shape:
            raise ValueError(
                f"Repair rendered latents of shape {list(found.shape)}; expected "
                f"{list(tried['samples'].shape)}. Wire the model that made the latents."
            )
        passed = believed(self.policy.judge(found), found)
        repaired = {index: place for place, index in enumerate(self.blocked) if passed[place]}
        self.current = torch.stack(
            [
                found[repaired[index]].to(item) if index in repaired else item
                for index, item in enumerate(self.samples)
            ]
        )
        failed = [index for index in self.blocked if index not in repaired]
        self.remarks.append(
            lambda say: say(
                "repaired: {items}; still blocked: {failed}",
                items=_places(list(repaired), say),
                failed=_places(failed, say),
            )
        )
        self.safe, self.blocked = sorted([*self.safe, *repaired]), failed

    def kept(self) -> Any:
        """The safe items, or nothing at all."""
        return self._items(self.safe, self.current)

    def rejected(self) -> Any:
        """The blocked items as they came in, or nothing at all."""
        return self._items(self.blocked, self.samples)

    def whole(self) -> dict[str, Any]:
        """The batch with grey in the place of blocked items."""
        if not self.blocked:
            return {**self.latent, "samples": self.current}
        grey = self._grey()
        kept = [self.current[i] if i in self.safe else grey[i] for i in range(len(self.samples))]
        return {**self.latent, "samples": torch.stack(kept)}

    def report(self, as_json: bool) -> str:
        """A line per item, and what became of the batch."""
        from ...lclip.safety.report import report_json, report_text

        said = draw.words.said
        notes = [said("{text}", text=doubt) for doubt in self.doubts]
        notes += [remark(said) for remark in self.remarks]
        if not self.safe:
            notes.append(
                said("no item is safe: nothing leaves by the safe socket, and what hangs on it does not run")
            )
        if as_json:
            return report_json(self.judge, self.verdicts, notes)
        return report_text(self.judge, self.verdicts, notes, said)

    def sheet(self) -> torch.Tensor:
        """The batch as small pictures with verdicts; blocked items are not shown. -> IMAGE [1, H, W, 3]"""
        passed = self.current[self.safe]
        previews = iter(
            memory.to_host(host_spaces.preview(passed, self.policy.config.latent_space)) if self.safe else ()
        )
        pictures = [next(previews) if index in self.safe else None for index in range(len(self.samples))]
        notes = [self._note(index) for index in range(len(pictures))]
        return draw.sheets.gate_sheet(pictures, notes, self.safe, self._cautions(), self._remarks())

    def _remarks(self) -> list[str]:
        """What the report notes, in the words of a picture."""
        from ...lclip.safety.report import of_thresholds

        drawn = draw.words.drawn
        return [*(remark(drawn) for remark in self.remarks), *of_thresholds(self.judge.policy, drawn)]

    def _cautions(self) -> list[str]:
        """What is odd about the batch, and why items were blocked that nothing could be asked about, once."""
        reasons: dict[str, list[int]] = {}
        for index in self.blocked:
            if not self.verdicts[index].probabilities:
                reasons.setdefault(self.verdicts[index].reason, []).append(index)
        drawn = draw.words.drawn
        unread = [
            drawn("item {item}: {text}", item=_places(items, drawn), text=why)
            for why, items in reasons.items()
        ]
        return [*self.doubts, *unread]

    def _note(self, index: int) -> str:
        verdict = self.verdicts[index]
        if index in self.safe and not verdict.safe:
            return draw.words.drawn("repaired")
        return f"{verdict.concept} {verdict.probability:.4f}" if verdict.probabilities else verdict.concept

    def _items(self, indices: list[int], source: torch.Tensor) -> Any:
        return take_items({**self.latent, "samples": source}, indices) if indices else sockets.nothing()


def _places(indices: list[int], say: Callable[..., str]) -> str:
    return ", ".join(map(str, sorted(indices))) or say("none")
