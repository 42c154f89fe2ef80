"""`python tests/host/screens.py [NUMBER ...]`: the pictures of nodes and workflows, drawn anew.

It starts the newest ComfyUI of COMFYUI_PATH, drops each workflow of the mini world (or those of the numbers
only), presses Run, and writes what is then seen: each node for its help page (web/docs), the thumbnails of
workflows and of their apps, and the README's pictures of whole workflows. Look at what it wrote before you
commit it.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import urllib.parse
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from browser import MADE, NO_BROWSER, Browser, Canvas, find_browser
from PIL import Image, ImageDraw

from benchmarks.server import Host

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS, DOCS, PAGES = ROOT / "workflows", ROOT / "web" / "docs", ROOT / "docs"
MAP = "the map"

THUMBNAILS: dict[str, tuple[int, tuple[str, ...]]] = {
    "Mini 1 Score and choose": (2, ("The chosen two",)),
    "Mini 2 ReNO": (2, ("Before: the seed as it is", "After: the best noise")),
    "Mini 3 Safety gate": (5, ("Safe pictures",)),
    "Mini 4 Guidance": (4, ("Without guidance", "With guidance")),
    "Mini 5 Heatmap": (4, ("The pictures", "Where it is, over a rough preview")),
    "Mini 6 Race": (2, ("The best two of sixteen",)),
    "Mini 7 Again until good": (1, ("Good enough",)),
    "Mini 8 Shares and balance": (4, ("Balanced",)),
    "Mini 9 Slider": (4, ("From small to large",)),
    "Mini 10 Explore": (1, (MAP,)),
    "Mini 11 Own taste": (4, ("Chosen by taste",)),
    "Mini 12 Another model's latents": (1, ("By the trained adapter",)),
    "Mini 13 Guard": (4, ("Without", "With")),
    "Mini 14 Custom sampling": (1, ("Searched: the picture", "Raced: the picture")),
    "Mini 15 A varied batch": (4, ("Without guidance", "With guidance")),
    "Mini 16 Names that tell": (3, ("Named by score",)),
}
"""Pictures a row, and the titles of the nodes whose pictures a thumbnail shows."""
FIRST = {"Mini 13 Guard": 4}  # pictures of each node, where that is not all of them

NOT_RUN = "SDXL 1 Score and choose"
ELSEWHERE = {
    "LatentCLIP_Load": NOT_RUN,
    "LatentCLIP_TextReward": "Mini 2 ReNO",
    "LatentCLIP_SafetyPolicy": "Mini 13 Guard",
}
"""Nodes that another workflow shows better than the first of the mini world that holds them."""
LARGER = {"LatentCLIP_Classify": (300, 640)}  # nodes that are drawn larger than their workflow has them
LEFT = {"LatentCLIP_LoadTaste", "LatentCLIP_PreferenceReward"}
"""Nodes whose picture is made by hand: muted in their workflow, or in none, as the second is, whose files no
world brings."""
README = {"Mini 1 Score and choose": "workflow-score.jpg", "Mini 2 ReNO": "workflow-reno.jpg"}

WINDOW = {"width": 2400, "height": 1700}
APP_WINDOW, APP_CORNER = {"width": 1600, "height": 1000}, (58, 38)  # the corner is right of bar and tabs
CORNER = (160, 200)  # where on the page a picture begins: right of the side bar and below the menu
HELP, WHOLE, THUMBNAIL = (760, 680), (1200, 800), 512  # pixels at most
REACH = (860, 760)  # what a help picture shows of the canvas, at most, if its node is not larger
FURTHER = {"LatentCLIP_Guidance": (930, 760)}  # whose reward and sampler are further apart
HELP_BYTES, BYTES = 32_000, 165_000  # all of web/docs has to stay below 1 MB
AROUND, ABOVE, GAP = 20, 60, 4  # ABOVE holds title and badge of a node

# Boxes as left, top, right, bottom on the canvas; a node's without its title.
LAYOUT = """() => {
  const box = ([x, y], [width, height]) => [x, y, x + width, y + height];
  const all = app.graph.links, links = all instanceof Map ? [...all.values()] : Object.values(all);
  return {
    nodes: app.graph._nodes.map(node => ({id: node.id, type: node.type, box: box(node.pos, node.size)})),
    links: links.map(link => [link.origin_id, link.target_id]),
    groups: app.graph._groups.map(group => box(group.pos, group.size)),
  };
}"""
LOOK = """([x, y, scale, left, top]) => {
  const page = document.querySelector('#graph-canvas').getBoundingClientRect();
  app.canvas.deselectAll?.();
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [(left - page.left) / scale - x, (top - page.top) / scale - y];
  app.canvas.setDirty(true, true);
}"""
# What stands below makes room.
RESIZE = """([type, [width, height]]) => {
  const node = app.graph._nodes.find(node => node.type === type), [x, y] = node.pos;
  const [bottom, more] = [y + node.size[1], height - node.size[1]];
  for (const other of app.graph._nodes)
    if (other.pos[1] > bottom && other.pos[0] < x + width && other.pos[0] + other.size[0] > x)
      other.pos = [other.pos[0], other.pos[1] + more];
  node.setSize([width, height]);
}"""
MAP_DATA = """() => {
  const node = app.graph._nodes.find(node => node.type === 'LatentCLIP_Explore');
  const [column, row] = ['column', 'row'].map(name => node.widgets.find(each => each.name === name).value);
  return {...JSON.parse(node.properties.latent_clip_map), column, row};
}"""

Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Layout:
    """Where things stand on the canvas."""

    nodes: list[dict[str, Any]]
    links: list[list[int]]
    groups: list[Extent]

    def around(self, kind: str) -> Extent:
        """The first node of a type, with those wired to it, then those cut off, if there is room."""
        boxes = {node["id"]: with_title(node["box"]) for node in self.nodes}
        own = next(node["id"] for node in self.nodes if node["type"] == kind)
        wired = {end for link in self.links if own in link for end in link} - {own}
        seen, reach = boxes[own], FURTHER.get(kind, REACH)
        for node in sorted(wired, key=lambda each: distance(boxes[each], boxes[own])):
            seen = wider(seen, boxes[node], reach)
        for box in sorted(boxes.values(), key=lambda each: distance(each, seen)):
            seen = wider(seen, box, reach) if touch(seen, box) else seen
        return seen

    def whole(self) -> Extent:
        """All groups."""
        return reduce(union, self.groups)


def with_title(box: Extent) -> Extent:
    left, top, right, bottom = box
    return left - AROUND, top - ABOVE, right + AROUND, bottom + AROUND


def union(one: Extent, other: Extent) -> Extent:
    low, high = zip(one[:2], other[:2], strict=True), zip(one[2:], other[2:], strict=True)
    return (*map(min, low), *map(max, high))


def wider(seen: Extent, box: Extent, reach: tuple[int, int]) -> Extent:
    """Both, if that is not too large; beside a node that is higher than a picture others may be as high."""
    both = union(seen, box)
    high = max(reach[1], seen[3] - seen[1])
    return both if both[2] - both[0] <= reach[0] and both[3] - both[1] <= high else seen


def touch(one: Extent, other: Extent) -> bool:
    return all(max(one[i], other[i]) < min(one[i + 2], other[i + 2]) for i in (0, 1))


def distance(one: Extent, other: Extent) -> float:
    """Width and height of the box of both."""
    both = union(one, other)
    return both[2] - both[0] + both[3] - both[1]


def read(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def shown_by() -> dict[str, str]:
    """Which workflow shows a node, by the node's type."""
    found = dict(ELSEWHERE)
    for name in THUMBNAILS:
        for node in read(name)["nodes"]:
            if node["type"].startswith("LatentCLIP_") and node["type"] not in LEFT:
                found.setdefault(node["type"], name)
    return found


def page_of(canvas: Canvas, **clip: Any) -> Image.Image:
    return Image.open(io.BytesIO(canvas.page.screenshot(**clip))).convert("RGB")


def photograph(canvas: Canvas, box: Extent, room: tuple[int, int]) -> Image.Image:
    """A box of the canvas, at a zoom of 1 if there is room for it."""
    wide, high = box[2] - box[0], box[3] - box[1]
    scale = min(1.0, room[0] / wide, room[1] / high)
    canvas.page.evaluate(LOOK, [box[0], box[1], scale, *CORNER])
    canvas.settle()
    size = {"width": int(wide * scale), "height": int(high * scale)}
    return page_of(canvas, clip={"x": CORNER[0], "y": CORNER[1], **size})


def save(picture: Image.Image, path: Path, most: int) -> None:
    """As a JPEG of the best quality that is small enough; of the lowest if none is."""
    for quality in range(90, 45, -5):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True, progressive=True)
        if data.tell() <= most:
            break
    path.write_bytes(data.getvalue())
    say(f"{path.relative_to(ROOT)}: {picture.width}x{picture.height}, {data.tell()} bytes, quality {quality}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def run(canvas: Canvas, name: str) -> None:
    canvas.drop(WORKFLOWS / f"{name}.json")
    if name != NOT_RUN:
        press_run(canvas, name)


def press_run(canvas: Canvas, name: str) -> None:
    canvas.start()
    if (ended := canvas.end()) != ("execution_success", ""):
        raise RuntimeError(f"{name} did not run to its end: {ended}")
    canvas.page.wait_for_timeout(4000)  # nodes say again what they said last


def write_help(canvas: Canvas, name: str) -> None:
    for kind in (kind for kind, workflow in shown_by().items() if workflow == name):
        if kind in LARGER:
            canvas.page.evaluate(RESIZE, [kind, LARGER[kind]])
        layout = Layout(**canvas.page.evaluate(LAYOUT))
        save(photograph(canvas, layout.around(kind), HELP), DOCS / f"{kind}.jpg", HELP_BYTES)


def write_whole(canvas: Canvas, name: str) -> None:
    layout = Layout(**canvas.page.evaluate(LAYOUT))
    save(photograph(canvas, layout.whole(), WHOLE), PAGES / README[name], BYTES)


def write_thumbnail(canvas: Canvas, name: str) -> None:
    columns, titles = THUMBNAILS[name]
    if titles == (MAP,):
        picture = framed_map(canvas)
    else:
        canvas.wait_for_pictures(*titles)
        shown = [canvas.pictures(title)[: FIRST.get(name)] for title in titles]
        picture = side_by_side([Image.fromarray(each) for one in shown for each in one], columns)
    save(picture, WORKFLOWS / f"{name}.jpg", HELP_BYTES)


def side_by_side(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Rows of pictures, all equally large; the last row is centred."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    wide, high = pictures[0].size
    room = [(THUMBNAIL - GAP * (count - 1)) / count for count in (columns, len(rows))]
    scale = min(room[0] / wide, room[1] / high, 256 / min(wide, high))
    wide, high = int(wide * scale), int(high * scale)
    sheet = Image.new("RGB", ((wide + GAP) * columns - GAP, (high + GAP) * len(rows) - GAP))
    for number, row in enumerate(rows):
        left = (columns - len(row)) * (wide + GAP) // 2
        for place, picture in enumerate(row):
            small = picture.resize((wide, high), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + place * (wide + GAP), number * (high + GAP)))
    return sheet


def framed_map(canvas: Canvas) -> Image.Image:
    """All cells of the map, with a frame around the chosen one."""
    data = canvas.page.evaluate(MAP_DATA)
    query = urllib.parse.urlencode(data["file"])
    sheet = Image.open(io.BytesIO(canvas.host.fetch(f"/view?{query}"))).convert("RGB")
    sheet = sheet.resize((THUMBNAIL, THUMBNAIL * data["rows"] // data["columns"]), Image.Resampling.LANCZOS)
    wide, high = sheet.width / data["columns"], sheet.height / data["rows"]
    left, top = data["column"] * wide, data["row"] * high
    box = [left, top, left + wide, top + high]
    ImageDraw.Draw(sheet).rectangle(box, outline=(200, 140, 20), width=4)
    return sheet


def write_app(canvas: Canvas, name: str) -> None:
    """The page of an app after its first run, when nothing of it is remembered yet."""
    canvas.page.set_viewport_size(APP_WINDOW)
    canvas.drop(WORKFLOWS / f"{name}.app.json")
    canvas.page.keyboard.press("Escape")  # the tour that the first app begins with
    press_run(canvas, f"{name}.app")
    outputs = read(f"{name}.app")["extra"]["linearData"]["outputs"]
    if not canvas.becomes(f"({MADE})({len(outputs)})", 60):
        raise RuntimeError(f"the app {name} does not show what it made")
    page = page_of(canvas).crop((*APP_CORNER, *APP_WINDOW.values()))
    page.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    save(page, WORKFLOWS / f"{name}.app.jpg", HELP_BYTES)
    canvas.command("Comfy.ToggleLinear")
    canvas.page.set_viewport_size(WINDOW)
    canvas.settle()


def write(canvas: Canvas, name: str) -> None:
    """All that one workflow shows."""
    if (WORKFLOWS / f"{name}.app.json").is_file():
        write_app(canvas, name)
    run(canvas, name)
    if name in THUMBNAILS:
        write_thumbnail(canvas, name)
    if name in README:
        write_whole(canvas, name)
    write_help(canvas, name)


def place_files(host: Host, name: str) -> None:
    """Empty files in the place of those that a workflow names, so that none is missed; it is not run."""
    for node in read(name)["nodes"]:
        for model in node["properties"].get("models", []):
            path = host.base / "models" / model["directory"] / model["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def chosen(numbers: list[str]) -> list[str]:
    """The workflows of these numbers, or all."""
    return [name for name in [*THUMBNAILS, NOT_RUN] if not numbers or name.split(" ")[1] in numbers]


def main() -> None:
    from conftest import by_age

    if not (hosts := by_age()) or (executable := find_browser()) is None:
        raise SystemExit("no ComfyUI: set COMFYUI_PATH" if not hosts else NO_BROWSER)
    with tempfile.TemporaryDirectory() as folder, Host(hosts[-1], Path(folder)) as host:
        place_files(host, NOT_RUN)
        browser = Browser(executable)
        try:
            canvas = Canvas(browser, host)
            canvas.page.set_viewport_size(WINDOW)
            for name in chosen(sys.argv[1:]):
                write(canvas, name)
        finally:
            browser.close()


if __name__ == "__main__":
    main()
