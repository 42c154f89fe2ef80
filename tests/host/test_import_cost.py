"""What the pack brings into the host's start: its own modules and Python's, nothing of others."""

from __future__ import annotations

from benchmarks.imports import foreign_modules, start_host


def test_the_import_loads_only_the_packs_own_modules(checkout):
    """ComfyUI itself has loaded torch, numpy and Pillow by then; the pack needs no more at its start."""
    start = start_host(checkout)
    assert start["success"]
    assert foreign_modules(start) == []
    own = [name for name in start["modules"] if "latent-clip" in name]
    assert any(name.endswith(".nodes.score") for name in own)
    later = (
        ".nodes.host.models",
        ".nodes.host.sampling",
        ".nodes.draw.sheets",
        ".lclip.model",
        ".mini.oracle",
        ".mini.drawing",
        ".mini.demo",
        ".mini.train",
        ".lclip.training",
        ".bulk",
        ".commands",
    )
    assert not [name for name in own if any(part in name for part in later)]
