"""The last live preview of a node of the pack is the node's own picture, and then there is none."""

from __future__ import annotations

import pytest
from PIL import Image
from test_race_nodes import Track
from test_slider_node import Slide


@pytest.mark.parametrize("kind", ["ReNO", "Race", "Slider"])
def test_the_last_live_preview_is_the_nodes_picture_and_then_there_is_none(host, new_graph, sdxl_clip, kind):
    bench = {"Slider": Slide}.get(kind, Track)(host, new_graph(), sdxl_clip)
    bench.model = bench.graph.add("Probe_WatchPreviews", value=bench.model[0])
    node = {
        "ReNO": lambda: bench.reno(bench.empty(), iterations=3),
        "Race": lambda: bench.race(bench.empty()),
        "Slider": lambda: bench.slide(bench.empty()),
    }[kind]()
    seen = bench.graph.add("Probe_SeenPreviews", after=node[0])
    result = bench.run()
    (name,) = [path.name for path in result.images(node)]
    with Image.open(host.base / "temp" / name) as picture:
        shown = picture.size
    sizes = [size and tuple(size) for *_, size in result.values(seen)]
    assert sizes[-2:] == [shown, None]
    assert any(size not in (shown, None) for size in sizes), "there were no live previews"
