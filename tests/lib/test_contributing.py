"""The example in CONTRIBUTING.md is a reward like every other."""

import importlib.util
import re
import tempfile
from pathlib import Path

from kinds.rewards import RewardKind

import lclip  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def example() -> type:
    """The first block of code, as the file that it says it is."""
    code = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dark.py"
        path.write_text(code, "utf-8")
        spec = importlib.util.spec_from_file_location("lclip.rewards.dark", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.DarkReward


class TestDarkReward(RewardKind):
    of = example()

    def make(self, model, items, **weight):
        return self.of(model.config.channels, model.config.latent_space, **weight)


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"`((?:lclip|nodes|tests|benchmarks)/[\w/.]+\w)`", TEXT)) - {
        "lclip/rewards/dark.py"
    }
    assert named and not [name for name in named if not (ROOT / name).exists()]
