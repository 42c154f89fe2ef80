"""The house stands: every law holds here, and each can be broken."""

from pathlib import Path

import pytest
from house import House
from house_laws import LAWS, offences
from house_offences import OFFENCES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ours() -> House:
    return House(ROOT)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_our_house_keeps_the_law(ours, law):
    assert list(law(ours)) == []


def test_the_whole_house_was_read(ours):
    tops = {name.split("/")[0] for name in ours.texts}
    assert tops == {"lclip", "nodes", "benchmarks", "__init__.py"}
    lazy = {(found.source, found.file) for found in ours.inner_imports}
    assert ("lclip/__init__.py", "lclip/mini/__init__.py") in lazy  # by import_module
    assert ("__init__.py", "nodes/score.py") in lazy  # in a function
    assert ("nodes/host/models.py", "lclip/rewards/rewards.py") in lazy  # three dots


def test_every_law_can_be_broken():
    assert set(OFFENCES) == {law.__name__ for law in LAWS}


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [(name, *case) for name, cases in OFFENCES.items() for case in cases],
    ids=[f"{name}-{n}" for name, cases in OFFENCES.items() for n in range(len(cases))],
)
def test_an_offence_is_found_and_named(tmp_path, name, files, said):
    law = next(law for law in LAWS if law.__name__ == name)
    found = offences(build(tmp_path, files), [law])
    assert any(said in offence for offence in found), found


GOOD = {
    "__init__.py": "def f():\n    from comfy_api.latest import io\n    from .nodes import score",
    "lclip/__init__.py": "from importlib import import_module\nfrom .model.a import A\nimport_module(name)",
    "lclip/model/__init__.py": "",
    "lclip/model/a.py": "import torch\nfrom ..latents import b\nfrom . import c",
    "lclip/model/c.py": "from ..errors import E",
    "lclip/errors.py": "",
    "lclip/latents/b.py": "import importlib\nimportlib.import_module('numpy')",
    "lclip/mini/__init__.py": "from ..model import a",
    "nodes/latents.py": "",
    "nodes/host/models.py": "import comfy.ops\nimport nodes\nfrom ... import lclip\nfrom ..latents import x",
    "nodes/score.py": "from comfy_api.latest import io\nfrom .host import models\nclass S(io.ComfyNode): ...",
    "benchmarks/a.py": "import lclip\nfrom lclip.mini import x",
}


def test_a_house_that_keeps_the_laws_is_left_alone(tmp_path):
    assert offences(build(tmp_path, GOOD)) == []


def build(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root
