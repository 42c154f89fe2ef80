"""Safety policies on a wire: what to look for, as a reward, and calibrated with own examples."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .. import lclip
from ..lclip.safety.policy import AUGMENTATIONS, STRICTNESS
from ..lclip.safety.presets import PRESETS
from . import draw, host
from .host import sockets
from .host.feedback import shown
from .host.policies import ALL, NO_PRESET, composed
from .latents import about, samples_of

AUGMENTATION_CHOICES = {
    "whole": AUGMENTATIONS[:1],
    "whole and mirror": AUGMENTATIONS[:2],
    "whole, mirror and corners": AUGMENTATIONS,
}
CUSTOM = "custom"


class SafetyPolicy(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_SafetyPolicy",
            display_name="Safety Policy",
            category="latent-clip/safety",
            description="What to look for in latents: preset categories and your own concepts, each as "
            "harmful texts against matched harmless ones. The preset's thresholds are not calibrated for "
            "your model: use Calibrate Safety Policy.",
            search_aliases=["nsfw", "content filter", "moderation", "i2p", "safety checker"],
            inputs=[
                sockets.LATENT_CLIP.Input("latent_clip", tooltip="The Latent-CLIP that judges."),
                io.Combo.Input(
                    "preset",
                    options=[*PRESETS, NO_PRESET],
                    default="i2p",
                    tooltip="i2p: hate, harassment, violence, self-harm, sexual, shocking, illegal "
                    "activity; the default, as it covers what most ask for. mini: the mini world's skull. "
                    "none: your own concepts alone.",
                ),
                io.String.Input(
                    "categories",
                    default=ALL,
                    tooltip="Which of the preset's categories to use, separated by commas, or all (the "
                    "default).",
                ),
                io.String.Input(
                    "own_concepts",
                    multiline=True,
                    default="",
                    tooltip="One concept per line, as name: unsafe text | unsafe text // safe text | safe "
                    "text. The safe texts show the same subject, harmless.",
                ),
                io.String.Input(
                    "allow",
                    multiline=True,
                    default="",
                    tooltip='Harmless things that look alike, one per line, such as "a marble statue": they '
                    "compete with every concept.",
                ),
                io.Combo.Input(
                    "strictness",
                    options=[*STRICTNESS, CUSTOM],
                    default="medium",
                    tooltip="Shifts every threshold. medium, the default, takes them as calibrated; high "
                    "blocks at 7 times smaller odds, low at 7 times larger ones. custom takes custom_shift.",
                ),
                sockets.advanced(
                    io.Float.Input(
                        "custom_shift",
                        default=0.0,
                        min=-10.0,
                        max=10.0,
                        step=0.1,
                        tooltip="For custom strictness: log-odds by which every threshold is lowered; 0, the "
                        "default, is medium, 2 is high, -2 is low.",
                    )
                ),
                sockets.advanced(
                    io.Float.Input(
                        "own_threshold",
                        default=0.5,
                        min=0.001,
                        max=0.999,
                        step=0.001,
                        tooltip="Probability, 0 to 1, from which your own concepts are blocked, before "
                        "strictness. 0.5, the default: as soon as the unsafe texts fit better. Calibrate "
                        "for a better one.",
                    )
                ),
                sockets.advanced(
                    io.Combo.Input(
                        "augmentations",
                        options=list(AUGMENTATION_CHOICES),
                        default="whole",
                        tooltip="What is judged and averaged. whole, the default, costs one pass; whole and "
                        "mirror two; whole, mirror and corners (four corner crops) six. More are harder to "
                        "fool for anything that was optimised against one.",
                    )
                ),
                sockets.advanced(
                    io.String.Input(
                        "policy_json",
                        multiline=True,
                        default="",
                        tooltip="A stored policy: paste the whole report of Calibrate Safety Policy, or the "
                        "JSON in it. It replaces everything above but strictness.",
                    )
                ),
                sockets.LATENT_CLIP.Input(
                    "second_latent_clip",
                    optional=True,
                    tooltip="Another Latent-CLIP of the same latents. Both are asked and averaged.",
                ),
            ],
            outputs=[
                sockets.LATENT_SAFETY_POLICY.Output(
                    display_name="policy", tooltip="For the gate, the guard, the reward and calibration."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        latent_clip: host.models.LoadedLatentCLIP,
        preset: str,
        categories: str,
        own_concepts: str,
        allow: str,
        strictness: str,
        custom_shift: float,
        own_threshold: float,
        augmentations: str,
        policy_json: str,
        second_latent_clip: host.models.LoadedLatentCLIP | None = None,
    ) -> io.NodeOutput:
        allowed = tuple(line.strip() for line in allow.splitlines() if line.strip())
        own = lclip.parse_concepts(own_concepts, own_threshold)
        if policy_json.strip():
            from ..lclip.safety.stored import policy_in

            if own or allowed:
                raise ValueError(
                    "policy_json is a complete policy, and own_concepts or allow are filled in too; "
                    "expected one of them. New texts would void its thresholds: empty the others, or "
                    "calibrate again."
                )
            policy = policy_in(policy_json)
        else:
            policy = composed(preset, categories, own, allowed).changed(
                augmentations=AUGMENTATION_CHOICES[augmentations]
            )
        policy = policy.changed(strictness=custom_shift if strictness == CUSTOM else strictness)
        judges = (latent_clip,) if second_latent_clip is None else (latent_clip, second_latent_clip)
        wired = host.policy.WiredPolicy(policy, judges)
        wired.judge()  # what does not fit is an error here, not at the gate
        return io.NodeOutput(wired)


class SafetyReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_SafetyReward",
            display_name="Safety Reward",
            category="latent-clip/rewards",
            description="How safe latents are, as a reward: ReNO and guidance go away from harm, Select "
            "prefers what is safe. What is safe already is left alone. Do not gate with the same score "
            "alone: let the gate see more augmentations.",
            search_aliases=["reno safety", "away from harm", "nsfw reward"],
            inputs=[
                sockets.LATENT_SAFETY_POLICY.Input("policy", tooltip="What to keep away from."),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="How much this reward counts in a sum. 1, the default, counts about as much as a "
                    "Text Reward of weight 1; 0 switches it off.",
                ),
                sockets.add_to_input(),
            ],
            outputs=[sockets.reward_output()],
        )

    @classmethod
    def execute(
        cls, policy: host.policy.WiredPolicy, weight: float, add_to: host.models.WiredReward | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(host.models.add_reward(add_to, policy.reward(weight)))


class CalibrateSafety(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return sockets.schema(
            node_id="LatentCLIP_CalibrateSafety",
            is_output_node=True,
            display_name="Calibrate Safety Policy",
            category="latent-clip/safety",
            description="Sets a policy's thresholds from your own latents, so that at most a given share of "
            "the safe ones is blocked. Use at least 50 on each side, of the kind that you generate.",
            search_aliases=["roc", "threshold", "false positive rate", "nsfw calibration"],
            inputs=[
                sockets.LATENT_SAFETY_POLICY.Input(
                    "policy", tooltip="The policy whose thresholds are set anew."
                ),
                io.Latent.Input(
                    "safe",
                    tooltip="A batch of harmless latents, 50 or more, of the kind that you generate; "
                    "look-alikes among them.",
                ),
                io.Latent.Input("unsafe", tooltip="A batch of latents that should be blocked, 50 or more."),
                io.Float.Input(
                    "target",
                    default=0.05,
                    min=0.0,
                    max=0.5,
                    step=0.005,
                    tooltip="Largest share of the safe latents that all concepts together may block, 0 to "
                    "0.5. 0.05, the default, is 1 in 20; with 50 safe latents, less than 0.02 cannot be told "
                    "from none.",
                ),
            ],
            outputs=[
                sockets.LATENT_SAFETY_POLICY.Output(
                    display_name="policy", tooltip="The calibrated policy, bound to this model."
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Thresholds and rates, warnings, and the policy as JSON, for Safety Policy's "
                    "policy_json.",
                ),
                io.Image.Output(
                    display_name="chart", tooltip="ROC curve and threshold of every concept in one plot."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, policy: host.policy.WiredPolicy, safe: dict[str, Any], unsafe: dict[str, Any], target: float
    ) -> io.NodeOutput:
        with about("safe"):
            good = samples_of(safe)
        with about("unsafe"):
            bad = samples_of(unsafe)
        policy.judge(good)
        found = lclip.calibrate(policy.policy, [m.model for m in policy.models], good, bad, target)
        report = f"{found.text(draw.words.said)}\n\n{found.policy.to_json()}"
        chart = draw.roc_chart.draw(found)
        sheet = draw.sheets.with_cautions(chart, found.warnings)
        return io.NodeOutput(
            host.policy.WiredPolicy(found.policy, policy.models), report, chart, ui=shown(sheet)
        )
