"""Safety in a graph: a gate for finished latents, and a guard while a model samples."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from . import host
from .host import sockets
from .host.choices import ACTIONS, SAMPLERS
from .host.feedback import say, shown_if
from .host.search_widgets import scheduler_input


class SafetyGate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_SafetyGate",
            is_output_node=True,
            display_name="Latent Safety Gate",
            category="latent-clip/safety",
            description="Judges each latent of a batch before anything is decoded. What is not provably "
            "safe never leaves by the safe socket: NaN, wrong scale and anything unreadable are blocked too.",
            search_aliases=["nsfw", "safety checker", "content filter", "moderation", "censor"],
            inputs=[
                sockets.LATENT_SAFETY_POLICY.Input(
                    "policy", tooltip="What to look for: wire a Safety Policy, or a calibrated one."
                ),
                io.Latent.Input("latent", tooltip="A batch of clean latents, such as a sampler's output."),
                io.Combo.Input(
                    "action",
                    options=list(ACTIONS),
                    default="separate",
                    tooltip="separate, the default: blocked items leave by their own socket. replace: a grey "
                    "picture takes their place. repair: they are rendered again, away from harm, judged "
                    "again, and replaced if that failed. stop: an error, and nothing leaves.",
                ),
                io.Combo.Input(
                    "report_as",
                    options=["text", "json"],
                    default="text",
                    tooltip="The report as lines to read (text, the default), or as json to keep for an "
                    "audit.",
                ),
                *repair_inputs(),
                io.Model.Input(
                    "model", optional=True, tooltip="For repair: the model that made the latents."
                ),
                io.Conditioning.Input("positive", optional=True, tooltip="For repair: the prompt."),
                io.Conditioning.Input("negative", optional=True, tooltip="For repair: the negative prompt."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="For replace and repair: encodes the grey picture exactly. Without it a known "
                    "grey of the latents' space is used.",
                ),
                sockets.show_input(),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="As the action says: the safe items alone (separate), or the whole batch with "
                    "grey or repaired items in their places.",
                ),
                io.Latent.Output(
                    display_name="safe",
                    tooltip="The safe and repaired items. Where none is, what hangs on this socket does not "
                    "run.",
                ),
                io.Latent.Output(
                    display_name="blocked",
                    tooltip="The blocked items as they came in. Where none is, what hangs on this socket "
                    "does not run.",
                ),
                io.Boolean.Output(display_name="all_safe", tooltip="Whether nothing had to be blocked."),
                io.Int.Output(display_name="blocked_count", tooltip="How many items are blocked."),
                io.String.Output(
                    display_name="report",
                    tooltip="Per item: verdict, concept, probability, threshold, runner-up; and the hash of "
                    "policy and model.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        policy: host.policy.WiredPolicy,
        latent: dict[str, Any],
        action: str,
        report_as: str,
        repair_iterations: int,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        model: Any = None,
        positive: Any = None,
        negative: Any = None,
        vae: Any = None,
        show: bool = True,
    ) -> io.NodeOutput:
        gate = host.gate.Gate(policy, latent, vae)
        if action == "stop":
            gate.stop()
        elif action == "repair":
            if model is None or positive is None or negative is None:
                raise ValueError(
                    "The action is repair, and model, positive or negative is not wired; expected all "
                    "three. Wire them, or choose replace."
                )
            stage = host.ksampler.Stage(model, positive, negative, cfg, seed, steps, scheduler, denoise=1.0)
            gate.repair(stage, sampler_name, repair_iterations)
        return io.NodeOutput(
            gate.kept() if action == "separate" else gate.whole(),
            gate.kept(),
            gate.rejected(),
            not gate.blocked,
            len(gate.blocked),
            gate.report(as_json=report_as == "json"),
            ui=shown_if(show, gate.sheet),
        )


def repair_inputs() -> list[Any]:
    """How repair renders again: the KSampler's widgets."""
    return [
        sockets.advanced(widget)
        for widget in (
            io.Int.Input(
                "repair_iterations",
                default=30,
                min=1,
                max=1000,
                tooltip="For repair: renders per item at most. 30 by default; an item stops once it is safe "
                "with some room.",
            ),
            io.Int.Input(
                "seed",
                default=0,
                min=0,
                max=2**64 - 1,
                control_after_generate=False,  # a new seed would judge, decode and save again at every queue
                tooltip="For repair: the seed that the latents were sampled with, 0 to 2^64 - 1, so that the "
                "search starts there.",
            ),
            io.Int.Input(
                "steps",
                default=1,
                min=1,
                max=100,
                tooltip="For repair: steps per render, as the latents were sampled with. 1 by default; made "
                "for 1 to 4.",
            ),
            io.Float.Input(
                "cfg",
                default=1.0,
                min=0.0,
                max=100.0,
                step=0.1,
                tooltip="For repair: classifier-free guidance, as in KSampler. 1 by default, for distilled "
                "models.",
            ),
            io.Combo.Input(
                "sampler_name",
                options=list(SAMPLERS),
                default="euler",
                tooltip="For repair: the sampler that renders, euler by default. Where no gradient passes "
                "it, repair searches without, and finds less.",
            ),
            scheduler_input("For repair. "),
        )
    ]


class SafetyGuard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_SafetyGuard",
            hidden=[io.Hidden.unique_id],
            display_name="Latent Safety Guard",
            category="latent-clip/safety",
            description="Judges the predicted picture while the model samples, with any sampler. It saves "
            "the remaining steps of what would be blocked anyway, or steers away early. A gate after the "
            "sampler stays useful.",
            search_aliases=["safe latent diffusion", "nsfw", "safety checker", "early stop", "steer away"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to watch; it must make the latents that the policy reads."
                ),
                sockets.LATENT_SAFETY_POLICY.Input(
                    "policy", tooltip="What to look for: wire a Safety Policy, or a calibrated one."
                ),
                io.Float.Input(
                    "check_from",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From this part of the schedule on, 0 to 1. 0, the default, is its beginning, "
                    "which saves most; early predictions are blurred and more easily misjudged.",
                ),
                io.Float.Input(
                    "check_to",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Up to this part of the schedule, 0 to 1. 1, the default, is its end. With stop, "
                    "what leaves the sampler is judged in any case, previews too.",
                ),
                io.Combo.Input(
                    "on_unsafe",
                    options=["steer", "stop"],
                    default="steer",
                    tooltip="steer, the default: move items above a threshold away from harm at every step; "
                    "none is blocked. stop: unsafe items leave as grey, by every output and preview, and "
                    "the sampling ends as soon as all are unsafe.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.1,
                    min=0.0,
                    max=10.0,
                    step=0.005,
                    tooltip="For steer: how far each step moves an unsafe prediction, relative to its own "
                    "size. 0.1, the default, is a tenth; 0 moves nothing.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The guarded model, for any sampler node.")
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        policy: host.policy.WiredPolicy,
        check_from: float,
        check_to: float,
        on_unsafe: str,
        strength: float,
    ) -> io.NodeOutput:
        tell = partial(say, cls.hidden.unique_id)
        return io.NodeOutput(
            host.safety.guard_model(model, policy, on_unsafe, strength, check_from, check_to, tell)
        )
