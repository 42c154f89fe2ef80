"""A ComfyUI checkout as a real server on this machine, workflows for it, and what came of them."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .hosts import HOST_TESTS, PACK, ROOT, arguments_of, can_import, environment_of, interpreter_of

PROBES = HOST_TESTS / "probe_pack"


class Host:
    """One ComfyUI server, from start to stop, in a folder of its own; a context manager does both.

    packs: folder names in custom_nodes (and in more_nodes, where that is there) with what they link to, if
    they are not there already; this checkout by default. arguments: for ComfyUI, beside COMFYUI_ARGS; one
    about memory takes the place of another. frontend: the folder of another frontend's files than its own.
    """

    def __init__(
        self,
        checkout: Path,
        base: Path,
        packs: dict[str, Path] | None = None,
        arguments: Sequence[str] = (),
        frontend: Path | None = None,
    ) -> None:
        self.checkout, self.base, self.arguments = checkout, base, arguments
        self.packs = {**(packs or {PACK: ROOT}), PROBES.name: PROBES}
        self.output, self.input = base / "output", base / "input"
        self.models, self.elsewhere = base / "models" / "latent_clip", base / "elsewhere"
        self.log = base / "server.log"
        self.python = interpreter_of(checkout)
        self.frontend = frontend
        self.has_frontend = frontend is not None or can_import(self.python, "comfyui_frontend_package")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.object_info: dict[str, Any] = {}

    def start(self, timeout: float = 600) -> None:
        for folder in (self.output, self.input, self.models, self.base / "custom_nodes", self.base / "front"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.base / "front" / "index.html").write_text("<html></html>")
        self.elsewhere.mkdir(parents=True, exist_ok=True)
        extra = f"more:\n  base_path: {self.base}\n  latent_clip: elsewhere\n"
        if (self.base / "more_nodes").is_dir():
            extra += "  custom_nodes: more_nodes\n"
        (self.base / "extra.yaml").write_text(extra)
        for name, target in self.packs.items():
            if not (place := self.base / "custom_nodes" / name).exists():
                place.symlink_to(target, target_is_directory=True)
        environment = {**environment_of(self.python), "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(), cwd=self.checkout, env=environment, stdout=log, stderr=log
            )
        self._wait_until_ready(time.monotonic() + timeout)

    def _command(self) -> list[str]:
        arguments = arguments_of(self.arguments)
        arguments += ["--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base)]
        arguments += ["--database-url", "sqlite:///:memory:"]
        if not self.has_frontend:  # an empty page in its place: enough for all that no browser looks at
            arguments += ["--front-end-root", str(self.base / "front")]
        if self.frontend is not None:
            arguments += ["--front-end-root", str(self.frontend)]
        arguments += ["--extra-model-paths-config", str(self.base / "extra.yaml")]
        arguments += ["--disable-auto-launch", "--disable-api-nodes", "--disable-all-custom-nodes"]
        arguments += ["--whitelist-custom-nodes", *self.packs]
        return [self.python, "main.py", *arguments]

    def _wait_until_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            try:
                self.object_info = self.get("/object_info")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.3)
        tail = self.log.read_text(errors="replace")[-4000:]
        self.stop()
        raise RuntimeError(f"{self.checkout} did not become ready. The end of its log:\n{tail}")

    @cached_property
    def on_cpu(self) -> bool:
        """Whether it computes without a GPU."""
        return self.get("/system_stats")["devices"][0]["type"] == "cpu"

    @property
    def has_dynamic_vram(self) -> bool:
        """Whether it brings the weights of its own models in layer by layer."""
        return self.has_logged("DynamicVRAM support detected and enabled")

    def has_logged(self, text: str) -> bool:
        """Whether its log has these words, up to now."""
        return text in self.log.read_text(errors="replace")

    def __enter__(self) -> Host:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.process = None

    def get(self, path: str) -> Any:
        return json.loads(self.fetch(path))

    def fetch(self, path: str) -> bytes:
        """A file that it serves, or any other answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=120) as reply:
            return reply.read()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def run(self, graph: Graph, timeout: float = 900, client: str | None = None) -> Result:
        """Queue a workflow and wait for its end. client: whose it is; a new one by default."""
        try:
            queued = self.post("/prompt", {"prompt": graph.nodes, "client_id": client or uuid.uuid4().hex})
        except urllib.error.HTTPError as refusal:
            return Result(self, graph, refused=json.load(refusal))
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the server died:\n{self.log.read_text(errors='replace')[-4000:]}")
            entry = self.get(f"/history/{queued['prompt_id']}").get(queued["prompt_id"])
            if entry and entry.get("status", {}).get("status_str"):
                return Result(self, graph, entry=entry)
            time.sleep(0.05)
        raise TimeoutError(
            f"the workflow did not end in {timeout} s:\n{self.log.read_text(errors='replace')[-4000:]}"
        )


class Graph:
    """A workflow in API form. `add` returns the node; indexing it gives one of its outputs to wire up."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}

    def add(self, class_type: str, **inputs: Any) -> Node:
        name = str(len(self.nodes) + 1)
        self.nodes[name] = {"class_type": class_type, "inputs": inputs}
        return Node(name)


class Node(str):
    """A node's id; node[i] is the link to its i-th output."""

    def __getitem__(self, output: int) -> list[Any]:  # type: ignore[override]
        return [str(self), output]


class Result:
    """What came of a workflow: outputs by node, or the error as the browser shows it."""

    def __init__(
        self, host: Host, graph: Graph, entry: dict | None = None, refused: dict | None = None
    ) -> None:
        self.host, self.graph, self.refused = host, graph, refused
        self.entry = entry or {}

    @property
    def messages(self) -> dict[str, dict[str, Any]]:
        return {name: content for name, content in self.entry.get("status", {}).get("messages", [])}

    @property
    def error(self) -> str:
        """The text of the error in the browser, or ''."""
        if self.refused is not None:
            return json.dumps(self.refused)
        return self.messages.get("execution_error", {}).get("exception_message", "")

    @property
    def ok(self) -> bool:
        return self.refused is None and self.entry.get("status", {}).get("status_str") == "success"

    def require_ok(self) -> Result:
        if not self.ok:
            details = self.messages.get("execution_error", {})
            trace = "".join(details.get("traceback", []))
            raise AssertionError(f"the workflow failed: {self.error}\n{trace}")
        return self

    @property
    def executed(self) -> set[str]:
        """The nodes that really ran: not taken from the cache."""
        cached = set(self.messages.get("execution_cached", {}).get("nodes", []))
        return set(self.graph.nodes) - cached

    def values(self, node: Node) -> list[Any]:
        """What a probe saw: of a Probe_Values node one entry per list item on its socket."""
        return json.loads(self.entry["outputs"][str(node)]["values"][0])

    def images(self, node: Node) -> list[Path]:
        found = self.entry["outputs"].get(str(node), {}).get("images", [])
        return [self.host.output / image["subfolder"] / image["filename"] for image in found]
