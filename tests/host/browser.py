"""A real browser before a real host: what an artist does on the canvas, and what is seen there.

The browser is a Chromium found on this machine; COMFYUI_BROWSER names another one. Pictures of the page are
kept in tests/artefacts.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage")  # fmt: skip
WINDOW = {"width": 1920, "height": 1000}
PATIENCE = 180_000  # milliseconds for one step: a busy machine is slow, and no test is about speed
NO_BROWSER = "NO BROWSER HERE: the tests in a browser are SKIPPED. Install chromium, or set COMFYUI_BROWSER."
NO_DRIVER = "NO PLAYWRIGHT HERE: the tests in a browser are SKIPPED. Run `pip install playwright`."
SHOTS = Path(__file__).resolve().parents[1] / "artefacts"

# The last that a new page does is to open a workflow: that of its last visit, or the default. Before it has,
# it would take the place of one that is dropped.
READY = """() => window.app?.graph && app.api.clientId && document.querySelector('#graph-canvas')
  && Object.keys(LiteGraph.registered_node_types).length > 100
  && app.extensionManager.workflow?.activeWorkflow && app.graph._nodes.length"""
MASK = ".p-blockui-mask"
DROP = """([text, name]) => {
  const files = new DataTransfer();
  files.items.add(new File([text], name, {type: 'application/json'}));
  const at = {dataTransfer: files, clientX: 900, clientY: 600, bubbles: true, cancelable: true};
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.querySelector('#graph-canvas').dispatchEvent(new DragEvent(kind, at));
}"""
# What the server tells the page about a run, from before the button is pressed.
WATCH = """() => {
  window.steps = 0;
  app.api.addEventListener('progress', event => { window.steps = event.detail.value; });
  window.ended = new Promise(done => {
    for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
      app.api.addEventListener(name, e => done([name, e.detail.exception_message || '']), {once: true});
  });
}"""
# Nodes 2.0 may show one of several pictures at a time, so there the count is that of what the node was told.
NODES = """() => app.graph._nodes.map(node => ({
  type: node.type, title: node.title, flagged: !!node.has_errors,
  known: node.constructor === LiteGraph.registered_node_types[node.type],
  pictures: node.imgs?.length ? node.imgs.filter(picture => picture.naturalWidth).map(picture => picture.src)
    : !document.querySelector(`.lg-node[data-node-id="${node.id}"]`) ? []
    : (app.nodeOutputs[node.id]?.images || []).map(
        ({filename, subfolder, type}) =>
          `${location.origin}/view?${new URLSearchParams({filename, subfolder, type})}`),
}))"""
# Whether each node of these titles shows what the server made, no live preview.
SHOWN = """titles => titles.every(title => {
  const node = app.graph._nodes.find(node => node.title === title);
  if (node?.imgs?.length) return node.imgs.every(picture => picture.naturalWidth);
  const drawn = node && document.querySelector(`.lg-node[data-node-id="${node.id}"]`);
  return drawn && [...drawn.querySelectorAll('img')].some(picture =>
    picture.naturalWidth && /view\\?.*filename=/.test(picture.src));
})"""
# Whether so many pictures that the server made are on the page.
MADE = """least => new Set([...document.querySelectorAll('img')]
  .filter(picture => picture.naturalWidth && /view\\?.*filename=/.test(picture.src))
  .map(picture => picture.src)).size >= least"""
SWITCH = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
# Each node with its title bar in pixels of the canvas, as the page has drawn it in either renderer.
BOXES = """() => app.graph._nodes.map(node => {
  const scale = app.canvas.ds.scale, [x, y, width, height] = node.getBounding();
  const drawn = document.querySelector(`.lg-node[data-node-id="${node.id}"]`)?.getBoundingClientRect();
  const [left, top, right, bottom] = drawn ? [drawn.left, drawn.top, drawn.right, drawn.bottom]
    .map(each => each / scale) : [x, y, x + width, y + height];
  return {title: node.title, left, top, right, bottom};
})"""
# The titles of notes whose words need more room than there is.
CUT = """() => app.graph._nodes.filter(node => node.type === 'MarkdownNote').filter(node => {
  const page = document.querySelector(`.lg-node[data-node-id="${node.id}"]`);
  const words = page ? page.querySelectorAll('*') : [...node.widgets.map(widget => widget.element)]
    .filter(Boolean).flatMap(each => [each, ...each.querySelectorAll('*')]);
  return [...words].some(each => each.clientHeight && each.scrollHeight > each.clientHeight + 2
    && getComputedStyle(each).overflowY !== 'visible');
}).map(node => node.title)"""
TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
SELECT = """type => {
  app.canvas.selectNode(app.graph._nodes.find(node => node.type === type));
  app.canvas.setDirty(true, true);
}"""


def find_browser() -> str | None:
    named = os.environ.get("COMFYUI_BROWSER")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """Chromium without a window, and with nothing remembered from elsewhere."""

    def __init__(self, executable: str) -> None:
        from playwright.sync_api import sync_playwright

        self.playwright = sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(
            executable_path=executable, headless=True, args=list(FLAGS), timeout=PATIENCE
        )

    def close(self) -> None:
        self.chromium.close()
        self.playwright.stop()


class Canvas:
    """One host's page. `complaints`: the errors that its scripts did not catch."""

    def __init__(self, browser: Browser, host: Any) -> None:
        self.host = host
        # A new user is shown the templates first; here each test opens what it wants.
        host.post("/settings", {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False})
        self.context = browser.chromium.new_context(viewport=WINDOW, locale="en-US")
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.open()

    def open(self) -> None:
        """A new page. A mask over all may stay on one for ever: the end of its fading is not told."""
        for _ in range(3):
            self.page.goto(f"http://127.0.0.1:{self.host.port}/", wait_until="commit")
            self.page.wait_for_function(READY)
            if self.becomes(f"!document.querySelector('{MASK}')"):
                return
        raise AssertionError("a mask over the page stays, on three pages")

    def close(self) -> None:
        self.context.close()

    def tidy(self) -> None:
        """Away with what an earlier test left open."""
        for _ in range(5):
            if self.dialogs().count():
                self.page.keyboard.press("Escape")
                self.settle()
        if self.page.locator(MASK).count():  # left over from a connection that was lost
            self.open()
        self.complaints.clear()

    def dialogs(self) -> Any:
        return self.page.locator("[role=dialog]:visible")

    def drop(self, path: Path) -> None:
        """Drop a workflow file on the canvas, and wait until it is there and has been drawn."""
        text = path.read_text(encoding="utf-8")
        self.page.evaluate("app.graph.clear()")
        self.page.evaluate(DROP, [text, path.name])
        self.wait_for_workflow(json.loads(text))

    def wait_for_workflow(self, workflow: dict[str, Any]) -> None:
        wanted = [workflow["id"], len(workflow["nodes"])]
        self.page.wait_for_function(
            "([id, count]) => app.graph.id === id && app.graph._nodes.length === count", arg=wanted
        )
        self.settle()

    def settle(self) -> None:
        """Two frames and a moment: layout and pictures follow the graph with a delay."""
        self.page.evaluate(TWO_FRAMES)
        self.page.wait_for_timeout(600)

    def nodes(self) -> list[dict[str, Any]]:
        return self.page.evaluate(NODES)

    def pictures(self, title: str) -> list[numpy.ndarray]:
        """What the node of that title shows on itself, as [H, W, 3]."""
        (sources,) = [node["pictures"] for node in self.nodes() if node["title"] == title]
        return [self._picture(source) for source in sources]

    def _picture(self, source: str) -> numpy.ndarray:
        with urllib.request.urlopen(source, timeout=120) as reply:
            return numpy.asarray(Image.open(io.BytesIO(reply.read())).convert("RGB"))

    def wait_for_pictures(self, *titles: str) -> None:
        self.page.wait_for_function(SHOWN, arg=list(titles))

    def start(self) -> None:
        """Press Run."""
        self.page.evaluate(WATCH)
        self.page.get_by_role("button", name="Run", exact=True).locator("visible=true").first.click()

    def end(self) -> tuple[str, str]:
        """How the run ended, and the text of its error or ''."""
        return tuple(self.page.evaluate("window.ended"))

    def cancel(self) -> None:
        """Press the cross beside Run."""
        self.page.get_by_role("button", name="Cancel current run").first.click()

    def set_widget(self, node: str, widget: str, value: Any) -> None:
        self.page.evaluate(
            "([type, name, value]) => { app.graph._nodes.find(node => node.type === type)"
            ".widgets.find(widget => widget.name === name).value = value; }",
            [node, widget, value],
        )

    def select(self, node: str) -> None:
        self.page.evaluate(SELECT, node)
        self.settle()

    def command(self, name: str) -> None:
        """What a menu entry does."""
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def has_whole_nodes_2(self) -> bool:
        """Whether its Nodes 2.0 has widgets of HTML; the first frontends with it have not even text boxes."""
        version = self.host.get("/system_stats")["system"]["comfyui_version"].lstrip("v")
        return tuple(map(int, version.split("."))) >= (0, 4)

    def render_by(self, nodes_2: bool) -> None:
        """Nodes 2.0 or the classic canvas, as the menu switches them."""
        self.page.evaluate(SWITCH, nodes_2)
        self.settle()

    def boxes(self) -> dict[str, tuple[float, float, float, float]]:
        """By title: left, top, right and bottom of each node as it is drawn, with all in view."""
        self.command("Comfy.Canvas.FitView")
        self.settle()
        return {
            f"{index} {box['title']}": (box["left"], box["top"], box["right"], box["bottom"])
            for index, box in enumerate(self.page.evaluate(BOXES))
        }

    def cut_notes(self) -> list[str]:
        return self.page.evaluate(CUT)

    def knows_apps(self) -> bool:
        """Whether the frontend has app mode."""
        return self.page.evaluate(
            "app.extensionManager.command.commands.some(command => command.id === 'Comfy.ToggleLinear')"
        )

    def shown(self) -> str:
        """All text on the page, without the canvas."""
        return self.page.locator("body").inner_text()

    def place_by_search(self, name: str) -> None:
        """Place the first node that the search finds for a name; tries again where a key came too early."""
        for _ in range(5):
            self.page.keyboard.press("Escape")
            self.page.mouse.dblclick(960, 560)
            if not self.becomes("document.activeElement?.tagName === 'INPUT'"):
                continue
            self.page.keyboard.type(name)
            # Among what was found; what is typed is no text of the page.
            if not self.becomes(f"document.body.innerText.includes({json.dumps(name)})"):
                continue
            self.settle()
            self.page.keyboard.press("Enter")
            if self.becomes("app.graph._nodes.length > 0"):
                return
        raise AssertionError(f"the search placed no {name}")

    def becomes(self, condition: str, seconds: int = 20) -> bool:
        """Whether a condition of the page comes true before long."""
        from playwright.sync_api import TimeoutError as TooLate

        try:
            self.page.wait_for_function(condition, timeout=1000 * seconds)
        except TooLate:
            return False
        return True

    def wait_for_text(self, text: str) -> None:
        self.page.wait_for_function("text => document.body.innerText.includes(text)", arg=text)

    def screenshot(self, name: str) -> None:
        SHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{self.host.checkout.name} {name}.png")
