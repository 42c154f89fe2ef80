"""Safety in a graph: a gate for finished latents, and a guard while a model samples."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import host, host_safety
from .gating import ACTIONS, Gate
from .host_gradients import DIFFERENTIABLE, SCHEDULERS
from .host_ksampler import Stage


class SafetyGate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="LatentCLIP_SafetyGate",
            display_name="Latent Safety Gate",
            category="latent-clip/safety",
            description="Judges each latent of a batch before anything is decoded. What is not provably "
            "safe never leaves by the safe socket: NaN, wrong scale and anything unreadable are blocked too.",
            search_aliases=["nsfw filter", "safety checker", "content gate", "moderation", "censor"],
            inputs=[
                host.LATENT_SAFETY_POLICY.Input("policy", tooltip="What to look for."),
                io.Latent.Input("latent", tooltip="A batch of clean latents, such as a sampler's output."),
                io.Combo.Input(
                    "action",
                    options=list(ACTIONS),
                    default="separate",
                    tooltip="separate: blocked items leave by their own socket. replace: a grey picture "
                    "takes their place. repair: they are rendered again, away from harm, judged again, and "
                    "replaced if that failed. stop: an error, and nothing leaves.",
                ),
                io.Combo.Input(
                    "report_as",
                    options=["text", "json"],
                    default="text",
                    tooltip="The report as lines to read, or as JSON to keep for an audit.",
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
        policy: host_safety.WiredPolicy,
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
    ) -> io.NodeOutput:
        gate = Gate(policy, latent, vae)
        if action == "stop":
            gate.stop()
        elif action == "repair":
            if model is None or positive is None or negative is None:
                raise ValueError(
                    "The action is repair, and model, positive or negative is not wired; expected all "
                    "three. Wire them, or choose replace."
                )
            stage = Stage(model, positive, negative, cfg, seed, steps, scheduler, denoise=1.0)
            gate.repair(stage, sampler_name, repair_iterations)
        return io.NodeOutput(
            gate.kept() if action == "separate" else gate.whole(),
            gate.kept(),
            gate.rejected(),
            not gate.blocked,
            len(gate.blocked),
            gate.report(as_json=report_as == "json"),
        )


def repair_inputs() -> list[Any]:
    """How repair renders again: the KSampler's widgets."""
    return [
        host.advanced(widget)
        for widget in (
            io.Int.Input(
                "repair_iterations",
                default=30,
                min=1,
                max=1000,
                tooltip="For repair: renders per item at most; an item stops once it is safe with some room.",
            ),
            io.Int.Input(
                "seed",
                default=0,
                min=0,
                max=2**64 - 1,
                tooltip="For repair: the seed that the latents were sampled with, so that the search starts "
                "there.",
            ),
            io.Int.Input(
                "steps", default=1, min=1, max=100, tooltip="For repair: steps per render; made for 1 to 4."
            ),
            io.Float.Input(
                "cfg", default=1.0, min=0.0, max=100.0, step=0.1, tooltip="For repair: as in KSampler."
            ),
            io.Combo.Input(
                "sampler_name",
                options=sorted(DIFFERENTIABLE),
                default="euler",
                tooltip="For repair: samplers that a gradient can pass.",
            ),
            io.Combo.Input(
                "scheduler", options=list(SCHEDULERS), default="simple", tooltip="For repair: as in KSampler."
            ),
        )
    ]


class SafetyGuard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="LatentCLIP_SafetyGuard",
            display_name="Latent Safety Guard",
            category="latent-clip/safety",
            description="Judges the predicted picture while the model samples, with any sampler. It saves "
            "the remaining steps of what would be blocked anyway, or steers away early. A gate after the "
            "sampler stays useful.",
            search_aliases=["safe latent diffusion", "nsfw guard", "early stop", "steer away"],
            inputs=[
                io.Model.Input("model", tooltip="The model to watch."),
                host.LATENT_SAFETY_POLICY.Input("policy", tooltip="What to look for."),
                io.Float.Input(
                    "check_from",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From this part of the schedule on. Early predictions are blurred and easily "
                    "misjudged.",
                ),
                io.Float.Input(
                    "check_to",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Up to this part of the schedule. With stop, the last step is checked in any "
                    "case.",
                ),
                io.Combo.Input(
                    "on_unsafe",
                    options=["steer", "stop"],
                    default="steer",
                    tooltip="steer: move items above a threshold away from harm at every step; none is "
                    "blocked. stop: unsafe items become grey, and the sampling ends as soon as all of them "
                    "are unsafe.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.1,
                    min=0.0,
                    max=10.0,
                    step=0.005,
                    tooltip="For steer: how far each step moves an unsafe prediction, relative to its own "
                    "size.",
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
        policy: host_safety.WiredPolicy,
        check_from: float,
        check_to: float,
        on_unsafe: str,
        strength: float,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            host_safety.guard_model(model, policy, on_unsafe, strength, check_from, check_to)
        )
