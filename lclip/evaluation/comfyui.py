"""Pictures by a running ComfyUI, which is given a workflow in API form for each variant.

The workflow says where the prompt belongs by {prompt} in a text; every seed and noise_seed that is a number
gets the picture's. A SaveLatent beside the SaveImage lets the latents be scored.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.files import parse_latents
from ..data.pictures import read_rgb
from ..data.texts import read_text
from .making import Made

PROMPT, SEEDS = "{prompt}", ("seed", "noise_seed")
Workflow = dict[str, dict[str, Any]]


def read_workflow(path: Path) -> Workflow:
    """A workflow in API form, with a place for the prompt. Raises FileNotFoundError, ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"no such workflow: {path}")
    text = read_text(path)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}; expected a workflow in API form") from error
    if isinstance(found, dict) and "nodes" in found and "links" in found:
        raise ValueError(
            f"{path} is a workflow as the canvas saves it; expected API form: in ComfyUI, Workflow > Export "
            "(API)"
        )
    nodes = list(found.values()) if isinstance(found, dict) else []
    if not nodes or not all(map(_is_node, nodes)):
        raise ValueError(
            f"{path} is no workflow; expected API form: a class_type and inputs for each node's id"
        )
    if not any(
        PROMPT in value
        for node in nodes
        for value in node.get("inputs", {}).values()
        if isinstance(value, str)
    ):
        raise ValueError(f"{path} has no place for the prompt; write {PROMPT} into the text where it belongs")
    return found


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs", {}), dict)


def filled(workflow: Workflow, prompt: str, seed: int) -> Workflow:
    """The workflow with a prompt and a seed in it."""
    found = copy.deepcopy(workflow)
    for node in found.values():
        inputs = node.get("inputs", {})
        for name, value in inputs.items():
            if isinstance(value, str):
                inputs[name] = value.replace(PROMPT, prompt)
            elif name in SEEDS and isinstance(value, int):
                inputs[name] = seed
    return found


def saved_anew(workflow: Workflow, mark: str) -> Workflow:
    """The workflow with a mark in the names that it saves under: a host shows nothing that it has cached."""
    found = copy.deepcopy(workflow)
    for node in found.values():
        prefix = node.get("inputs", {}).get("filename_prefix")
        if isinstance(prefix, str):
            node["inputs"]["filename_prefix"] = f"{prefix}-{mark}"
    return found


@dataclass(frozen=True)
class ComfyMaker:
    """A ComfyUI at an address, such as http://127.0.0.1:8188, and a workflow for each variant.

    timeout: seconds that one picture may take. OSError where it does not answer.
    """

    address: str
    workflows: Mapping[str, Workflow]
    timeout: float = 600.0

    @property
    def variants(self) -> Sequence[str]:
        return tuple(self.workflows)

    def about(self) -> dict[str, Any]:
        """The host's version, and hashes of the workflows."""
        system = self._told("/system_stats").get("system", {})
        texts = {name: json.dumps(each, sort_keys=True) for name, each in self.workflows.items()}
        return {
            "maker": "comfyui",
            "comfyui": str(system.get("comfyui_version", "unknown")),
            "workflows": {
                name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()
            },
        }

    def make(self, variant: str, prompt: str, seed: int) -> Made:
        asked = saved_anew(filled(self.workflows[variant], prompt, seed), uuid.uuid4().hex[:8])
        sent = json.dumps({"prompt": asked}).encode()
        number = self._told("/prompt", sent, "prompt_id")["prompt_id"]
        outputs = self._outputs(number)
        pictures = [file for out in outputs for file in out.get("images", ())]
        pictures.sort(key=lambda file: file.get("type") != "output")
        if not pictures:
            raise ValueError(f"the workflow {variant!r} showed no picture; expected a SaveImage in it")
        picture = read_rgb(self._file(pictures[0]))
        latents = [file for out in outputs for file in out.get("latents", ())]
        stored = parse_latents(self._file(latents[0]), latents[0]["filename"]) if latents else [None]
        return Made(picture, stored[0])

    def _outputs(self, number: str) -> list[dict[str, Any]]:
        """What all nodes showed, once the work is done. ValueError where it failed."""
        until = time.monotonic() + self.timeout
        while time.monotonic() < until:
            entry = self._told(f"/history/{number}").get(number)
            if entry and entry.get("status", {}).get("status_str") == "error":
                raise ValueError(f"ComfyUI: {_exception(entry['status'])}")
            if entry and entry.get("status", {}).get("completed"):
                return list(entry["outputs"].values())
            time.sleep(0.1)
        raise ValueError(
            f"ComfyUI took more than {self.timeout:g} s for one picture; give it more by --timeout"
        )

    def _file(self, file: Mapping[str, str]) -> bytes:
        wanted = {name: file.get(name, "") for name in ("filename", "subfolder", "type")}
        return self._ask(f"/view?{urllib.parse.urlencode(wanted)}")

    def _told(self, path: str, sent: bytes | None = None, holding: str | None = None) -> dict[str, Any]:
        """An answer in JSON that holds such an entry. Raises as `_ask` does."""
        try:
            answer = json.loads(self._ask(path, sent))
        except (json.JSONDecodeError, UnicodeDecodeError):
            answer = None
        if not isinstance(answer, dict) or (holding is not None and holding not in answer):
            raise ConnectionError(
                f"what answers at {self.address} is no ComfyUI: it does not know {path}. "
                "Give ComfyUI's own address, such as http://127.0.0.1:8188"
            )
        return answer

    def _ask(self, path: str, sent: bytes | None = None) -> bytes:
        """Raises ConnectionError where nobody answers, ValueError for an answer that is none."""
        kind = {"Content-Type": "application/json"} if sent else {}
        request = urllib.request.Request(self.address.rstrip("/") + path, sent, kind)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.read()
        except urllib.error.HTTPError as error:
            raise ValueError(f"ComfyUI refuses {path.split('?')[0]}: {_reason(error)}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ConnectionError(
                f"no ComfyUI answers at {self.address}: {reason}. Start it, or give its address: "
                "http://127.0.0.1:8188"
            ) from error


def _reason(error: urllib.error.HTTPError) -> str:
    """What the host says of a workflow that it does not take."""
    try:
        told = json.loads(error.read())
        nodes = [
            f"{n['class_type']}: {e['message']} {e.get('details', '')}"
            for n in told["node_errors"].values()
            for e in n["errors"]
        ]
        return "; ".join([str(told["error"].get("message", told["error"])), *nodes])[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{error.code} {error.reason}"


def _exception(status: Mapping[str, Any]) -> str:
    for kind, told in status.get("messages", ()):
        if kind == "execution_error":
            return f"{told.get('node_type')}: {' '.join(str(told.get('exception_message')).split())}"[:300]
    return "the workflow failed"
