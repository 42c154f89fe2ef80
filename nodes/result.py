"""What a search found that ran as a SAMPLER in stock nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from . import draw, host
from .host import sockets
from .host.feedback import shown
from .latents import samples_of

if TYPE_CHECKING:
    from .. import lclip
    from .host.finds import Find


class SearchResult(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_SearchResult",
            is_output_node=True,  # it shows its chart with nothing wired behind it
            display_name="Search Result",
            category="latent-clip/sampling",
            description="What ReNO Sampler or Race Sampler found in SamplerCustom or SamplerCustomAdvanced: "
            "the noise of the best, their rewards, chart and report; of a race its seeds and checks too.",
            search_aliases=["best noise", "reno curve", "race chart", "winner", "search report"],
            inputs=[
                io.Sampler.Input(
                    "sampler",
                    tooltip="The ReNO Sampler or Race Sampler that found the latents. No default: it has to "
                    "be wired.",
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="What SamplerCustom or SamplerCustomAdvanced made with that sampler, with "
                    "nothing in between. No default: it has to be wired.",
                ),
            ],
            outputs=[
                io.Noise.Output(
                    display_name="noise",
                    is_output_list=True,
                    tooltip="One for every rank, and a search has one: SamplerCustomAdvanced makes the same "
                    "latents of it, with the stock sampler and the same sigmas.",
                ),
                io.Float.Output(
                    display_name="rewards", is_output_list=True, tooltip="The reward of every latent."
                ),
                io.Image.Output(
                    display_name="chart",
                    tooltip="Reward per render of a noise search, or of every candidate at every check of a "
                    "race.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="In words how the search of every item ended, or every check of the race.",
                ),
                io.Int.Output(
                    display_name="seeds",
                    is_output_list=True,
                    tooltip="Of a race, the seed of every latent. Of a noise search, what hangs on this "
                    "socket does not run.",
                ),
                io.Int.Output(
                    display_name="places",
                    is_output_list=True,
                    tooltip=f"{sockets.PLACES_HINT} Of a noise search, what hangs on this socket does not "
                    "run.",
                ),
                io.String.Output(
                    display_name="checks", tooltip=f"{sockets.CHECKS_HINT} Empty of a noise search."
                ),
                io.Float.Output(
                    display_name="saved",
                    tooltip="Of a race, the share of the passes through the model that was saved, at most 1; "
                    "below 0 where drafts cost more than they save. 0 of a noise search.",
                ),
            ],
        )

    @classmethod
    def execute(cls, sampler: Any, latent: dict[str, Any]) -> io.NodeOutput:
        samples = samples_of(latent)
        if isinstance(sampler, host.race.RaceSampler):
            return _of_race(sampler, sampler.finds.of(samples))
        if isinstance(sampler, host.sampling.NoiseSearch):
            found = sampler.finds.of(samples)
            chart = draw.curves.search_curves(found.result.histories, found.result.hacked_since)
            seen = draw.sheets.with_cautions(chart, [*sampler.cautions, *found.result.notes])
            told = found.noises, found.rewards, chart, found.result.report
            return io.NodeOutput(*told, [sockets.nothing()], [sockets.nothing()], "", 0.0, ui=shown(seen))
        raise ValueError(
            f"This sampler is a {type(sampler).__name__}, which searches nothing. Wire that of a ReNO "
            "Sampler or a Race Sampler."
        )


def _of_race(sampler: host.race.RaceSampler, found: Find[lclip.RaceResult]) -> io.NodeOutput:
    result = found.result
    chart = draw.races.race_chart(result)
    cautions = [*sampler.reward.cautions, *draw.races.race_cautions(result)]
    return io.NodeOutput(
        found.noises,
        found.rewards,
        chart,
        draw.races.race_report(result),
        result.seeds,
        result.places,
        draw.races.checks_as_json(result),
        result.saved,
        ui=shown(draw.sheets.with_cautions(chart, cautions)),
    )
