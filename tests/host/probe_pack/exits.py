"""What the tests of the guard need: all that leaves a sampler, recorded, and nodes that meddle with it."""

from __future__ import annotations

import json
from pathlib import Path

import comfy.cli_args
import comfy.sample
import comfy.utils
import folder_paths
import numpy
from comfy.patcher_extension import WrappersMP
from server import PromptServer

from .anything import ANY


class RecordSampling:
    """SamplerCustom, but for the callback: it records x0 and x of every call, as .npz."""

    RETURN_TYPES = ("LATENT",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",), "positive": ("CONDITIONING",), "negative": ("CONDITIONING",),
                "sampler": ("SAMPLER",), "sigmas": ("SIGMAS",), "latent": ("LATENT",),
                "seed": ("INT", {"default": 0}), "cfg": ("FLOAT", {"default": 1.0}), "name": ("STRING", {}),
            }
        }  # fmt: skip

    def run(self, model, positive, negative, sampler, sigmas, latent, seed, cfg, name):
        steps, predicted, noisy = [], [], []

        def record(step, x0, x, total):
            steps.append((step, total))
            raw = model.model.process_latent_out
            predicted.append(raw(x0.float()).cpu().numpy())
            noisy.append(raw(x.float()).cpu().numpy())

        samples = latent["samples"]
        noise = comfy.sample.prepare_noise(samples, seed)
        result = comfy.sample.sample_custom(
            model, noise, cfg, sampler, sigmas, positive, negative, samples,
            noise_mask=latent.get("noise_mask"), callback=record, disable_pbar=True, seed=seed,
        )  # fmt: skip
        path = Path(folder_paths.get_output_directory()) / f"{name}.npz"
        numpy.savez(path, steps=steps, x0=predicted, x=noisy, samples=result.cpu().numpy())
        return ({"samples": result},)


class Meddler:
    """A MODEL of which another node replaces what is predicted, or sampled, by given latents."""

    RETURN_TYPES = ("MODEL",)
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",), "latent": ("LATENT",), "place": (["post cfg", "predict", "sample"],)
            }
        }  # fmt: skip

    def run(self, model, latent, place):
        patched = model.clone()
        scaled = model.model.process_latent_in(latent["samples"].clone())
        if place == "post cfg":
            patched.set_model_sampler_post_cfg_function(lambda args: scaled.to(args["denoised"]))
        elif place == "predict":
            patched.add_wrapper_with_key(
                WrappersMP.PREDICT_NOISE, "meddler", lambda executor, *args, **more: scaled.to(args[0])
            )
        else:
            patched.add_wrapper_with_key(
                WrappersMP.SAMPLER_SAMPLE,
                "meddler",
                lambda executor, *args, **more: scaled.to(executor(*args, **more)),
            )
        return (patched,)


class WatchPreviews:
    """From here on the host makes previews, and what it sends is recorded. The value goes through."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"
    before = None
    sent: list = []

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}}

    @classmethod
    def IS_CHANGED(cls, value):
        return float("nan")

    def run(self, value):
        WatchPreviews.sent = []
        if WatchPreviews.before is None:
            hook, method = comfy.utils.PROGRESS_BAR_HOOK, comfy.cli_args.args.preview_method
            WatchPreviews.before = hook, method

            def record(value, total, preview=None, **more):
                spread = (
                    None if preview is None else float(numpy.asarray(preview[1], float).std((0, 1)).max())
                )
                WatchPreviews.sent.append((value, total, spread, preview and preview[1].size))
                return hook(value, total, preview, **more)

            comfy.utils.set_progress_bar_global_hook(record)
        comfy.cli_args.args.preview_method = comfy.cli_args.LatentPreviewMethod.Latent2RGB
        return (value,)


class SeenPreviews:
    """What was sent since: value, total, and of a preview the spread of its colours and its size, or None."""

    RETURN_TYPES = ("STRING",)
    OUTPUT_NODE = True
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": (ANY, {})}}

    def run(self, after):
        if WatchPreviews.before is not None:
            hook, comfy.cli_args.args.preview_method = WatchPreviews.before
            comfy.utils.set_progress_bar_global_hook(hook)
            WatchPreviews.before = None
        return {"ui": {"values": [json.dumps(WatchPreviews.sent)]}, "result": ("",)}


class WatchEvents:
    """From here on what the host sends to browsers under a name is recorded. The value goes through."""

    RETURN_TYPES = (ANY,)
    CATEGORY = "probe"
    FUNCTION = "run"
    before = None
    sent: list = []

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {}), "event": ("STRING", {"default": ""})}}

    @classmethod
    def IS_CHANGED(cls, value, event):
        return float("nan")

    def run(self, value, event):
        server, WatchEvents.sent = PromptServer.instance, []
        send = WatchEvents.before = server.send_sync

        def record(name, data, sid=None):
            if name == event:
                WatchEvents.sent.append(data)
            return send(name, data, sid)

        server.send_sync = record
        return (value,)


class SeenEvents:
    """What was sent since, as JSON."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    CATEGORY = "probe"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": (ANY, {})}}

    def run(self, after):
        PromptServer.instance.send_sync = WatchEvents.before
        return {"ui": {"values": [json.dumps(WatchEvents.sent)]}}


NODES = {
    "Probe_WatchEvents": WatchEvents,
    "Probe_SeenEvents": SeenEvents,
    "Probe_RecordSampling": RecordSampling,
    "Probe_Meddler": Meddler,
    "Probe_WatchPreviews": WatchPreviews,
    "Probe_SeenPreviews": SeenPreviews,
}
