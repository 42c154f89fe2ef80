"""The example in CONTRIBUTING.md is a reward like every other."""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from kinds.rewards import RewardKind

import lclip  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
CODE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]


def example() -> type:
    """The first block of code, as the file that it says it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dark.py"
        path.write_text(CODE, "utf-8")
        spec = importlib.util.spec_from_file_location("lclip.rewards.dark", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.DarkReward


class TestDarkReward(RewardKind):
    of = example()

    def make(self, model, items, **weight):
        return self.of(model.config.channels, model.config.latent_space, **weight)


@pytest.mark.parametrize("asked", [("check",), ("format", "--diff")], ids=" ".join)
def test_ruff_has_nothing_to_say_about_it(asked):
    pytest.importorskip("ruff")
    command = [sys.executable, "-m", "ruff", *asked, "--stdin-filename", "lclip/rewards/dark.py", "-"]
    found = subprocess.run(command, cwd=ROOT, input=CODE, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"`((?:lclip|nodes|tests|benchmarks|docs|locales)/[\w/.]+\w)`", TEXT)) - {
        "lclip/rewards/dark.py"
    }
    assert named and not [name for name in named if not (ROOT / name).exists()]
