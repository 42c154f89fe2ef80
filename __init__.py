"""Latent-CLIP for ComfyUI: score, choose, improve and gate pictures while they are still latents."""

from pathlib import Path

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called by ComfyUI, and only there: nothing of the host is imported before."""
    from comfy_api.latest import ComfyExtension  # pyright: ignore[reportMissingImports]

    from .nodes import (
        adapter,
        balance,
        bridge,
        explore,
        guidance,
        load,
        mini,
        race,
        reno,
        result,
        reward,
        safety,
        safety_gate,
        score,
        select,
        shares,
        slider,
        taste,
    )
    from .nodes.host import folders as host_folders
    from .nodes.host import locale as host_locale
    from .nodes.host import replacements as host_replacements
    from .nodes.host import web as host_web

    class LatentCLIPExtension(ComfyExtension):
        async def on_load(self):
            await host_replacements.register()

        async def get_node_list(self):
            return [
                load.LoadLatentCLIP,
                mini.LoadMiniWorld,
                mini.LoadMiniTwin,
                adapter.TrainAdapter,
                adapter.ApplyAdapter,
                bridge.Bridge,
                score.Score,
                score.Classify,
                score.Heatmap,
                reward.TextReward,
                reward.ImageReward,
                reward.VarietyReward,
                reward.PreferenceReward,
                taste.TrainTaste,
                taste.LoadTaste,
                select.Select,
                shares.ConceptShares,
                balance.Balance,
                reno.ReNOSampler,
                reno.ReNO,
                race.Race,
                race.RaceKSampler,
                result.SearchResult,
                explore.Explore,
                slider.Slider,
                guidance.Guidance,
                safety.SafetyPolicy,
                safety_gate.SafetyGate,
                safety_gate.SafetyGuard,
                safety.SafetyReward,
                safety.CalibrateSafety,
            ]

    for folder in host_folders.FOLDERS:
        folder.register()
    host_locale.listen()
    host_web.serve_pages(Path(__file__).parent, WEB_DIRECTORY)
    host_web.serve_file("/latent-clip/map.js", Path(__file__).parent / "lclip" / "exploring" / "map.js")
    return LatentCLIPExtension()
