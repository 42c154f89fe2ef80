"""Models by name: a cache on this disk, and a hub of our own on this machine; nothing goes out."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import lclip
from lclip.checkpoints.hub import RELEASED, TRAINED, find_pretrained, repository_named

pytest.importorskip("huggingface_hub")

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "a" * 40


def cached(cache, repository, name, content: bytes):
    """A file as the hub's cache holds it."""
    root = cache / f"models--{repository.replace('/', '--')}"
    blob, link = root / "blobs" / hashlib.sha256(content).hexdigest(), root / "snapshots" / COMMIT / name
    for folder in (blob.parent, link.parent, root / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    blob.write_bytes(content)
    link.symlink_to(blob)
    return link


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_model_in_the_cache(tmp_path, tiny_model, name):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "m.safetensors")
    # Written as safetensors, since a bare pickle has no room for this model's words.
    cached(tmp_path / "hub", RELEASED[name], TRAINED, path.read_bytes())
    for called in (name, RELEASED[name]):
        model = lclip.pretrained(called, cache_dir=tmp_path / "hub")
        assert torch.equal(model.visual.proj, tiny_model.visual.proj)
        assert not model.training


def test_another_repository_in_the_cache(tmp_path, tiny_model):
    path = lclip.save_checkpoint(tiny_model, tmp_path / "m.safetensors")
    cached(tmp_path / "hub", "someone/mine", "mine.safetensors", path.read_bytes())
    model = lclip.pretrained(
        "someone/mine", cache_dir=tmp_path / "hub", dtype=torch.float16, size_rule="interpolate"
    )
    assert (model.visual.proj.dtype, model.size_rule) == (torch.float16, "interpolate")


@pytest.mark.parametrize("name", ["b-8", "someone/mine"])
def test_nothing_is_downloaded_unasked(tmp_path, name):
    with pytest.raises(
        FileNotFoundError, match=r"not in the cache, and nothing is downloaded unasked.*download=True"
    ):
        lclip.pretrained(name, cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("name", ["b-16", "", "a/b/c", "/etc/passwd", "../x", " b-8", "a/"])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="expected 'b-8', 'b-4-plus', or OWNER/NAME"):
        repository_named(name)


def test_a_name_with_odd_signs(tmp_path):
    with pytest.raises(ValueError, match="no name of a repository"):
        find_pretrained("some one/mi:ne", cache_dir=tmp_path)


def test_a_damaged_file_in_the_cache_is_named(tmp_path):
    cached(tmp_path / "hub", RELEASED["b-8"], TRAINED, b"<html>not found</html>")
    with pytest.raises(lclip.CheckpointError, match=r"epoch_34\.pt.*HTML"):
        lclip.pretrained("b-8", cache_dir=tmp_path / "hub")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"huggingface_hub.*lclip\.load"):
        lclip.pretrained("b-8")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download asks for."""

    files: dict = {}

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        if not self.path.split("?")[0].startswith(("/api/models/someone/mine", "/someone/mine/resolve/")):
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
        elif "/tree/" in self.path:
            files = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            self.reply(200, json.dumps(files).encode(), {"Content-Type": "application/json"}, body)
        elif self.path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in self.files]
            about = {"id": "someone/mine", "sha": COMMIT, "siblings": siblings, "private": False}
            self.reply(200, json.dumps(about).encode(), {"Content-Type": "application/json"}, body)
        elif (content := self.files.get(self.path.split("?")[0].rsplit("/", 1)[-1])) is None:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        else:
            etag = hashlib.sha256(content).hexdigest()
            self.reply(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

    def reply(self, code, content, headers, body):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextmanager
def hub(files):
    handler = type("Serving", (Hub,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


ASK = """
import sys, lclip
for name in sys.argv[2:]:
    try:
        model = lclip.pretrained(name, download=True, cache_dir=sys.argv[1])
        print("loaded", float(model.visual.proj.sum()))
    except (ValueError, OSError) as error:
        print(type(error).__name__, error)
"""


def ask(endpoint, cache, *names, **other):
    """In a process of its own: the package reads its settings when it is imported."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        **other,
    }
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        environment.pop(proxy, None)
    command = [sys.executable, "-c", ASK, str(cache), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_download_that_was_asked_for(tmp_path, tiny_model):
    folder = lclip.convert(
        lclip.save_checkpoint(tiny_model, tmp_path / "m.safetensors"), tmp_path / "hf", to="transformers"
    )
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    cache = tmp_path / "hub"
    with hub({**files, "malware.pkl": b"cos\nsystem\n"}) as endpoint:
        loaded, unknown = ask(endpoint, cache, "someone/mine", "someone/else")
    assert float(loaded.removeprefix("loaded ")) == pytest.approx(
        float(tiny_model.visual.proj.sum()), abs=1e-4
    )
    assert (
        unknown.startswith("ValueError someone/else: the hub has no such") and "look up the name" in unknown
    )
    assert not list(cache.rglob("malware*"))
    assert torch.equal(lclip.pretrained("someone/mine", cache_dir=cache).visual.proj, tiny_model.visual.proj)


def test_without_a_network_it_says_so_in_a_line(tmp_path):
    (told,) = ask("http://127.0.0.1:9", tmp_path, "b-8")
    assert told.startswith("OSError") and "cannot be reached" in told, told


def test_offline_it_says_so_in_a_line(tmp_path):
    (told,) = ask("http://127.0.0.1:9", tmp_path, "b-8", HF_HUB_OFFLINE="1")
    assert told.startswith("OSError") and "wendlerc/latent-clip-b-8" in told, told
