"""Nothing is forgotten: every member of a kind has a class that asks it what the kind is asked."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
from torch import nn

import lclip
from lclip.reno.types import METHODS
from lclip.safety.presets import PRESETS

HERE = Path(__file__).parent
ASK_NOBODY = {"lclip.__main__"}
OF_AN_EXTRA = "lclip.diffusers"  # reads another package's models alone, and is asked in test_diffusers.py


def classes() -> list[type]:
    """Every class that the library defines, whoever imports it."""
    found = {}
    for module in pkgutil.walk_packages(lclip.__path__, "lclip."):
        if module.name not in ASK_NOBODY and not module.name.startswith(OF_AN_EXTRA):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and value.__module__ == module.name:
                    found[value.__qualname__] = value
    return list(found.values())


def is_reward(cls: type) -> bool:
    """Whether it answers one tensor with another, and is no network."""
    call = inspect.getattr_static(cls, "__call__", None)
    if cls.__name__.startswith("_") or inspect.isabstract(cls) or issubclass(cls, nn.Module):
        return False
    if not inspect.isfunction(call):
        return False
    _, *wanted = inspect.signature(call).parameters.values()
    annotations = [parameter.annotation for parameter in wanted]
    return annotations == ["Tensor"] and inspect.signature(call).return_annotation == "Tensor"


def is_adapter(cls: type) -> bool:
    """Whether it brings latents from a source to a target."""
    ends = hasattr(cls, "source") and hasattr(cls, "target")
    return (
        ends
        and not inspect.isabstract(cls)
        and (callable(getattr(cls, "forward", None)) or inspect.isfunction(vars(cls).get("__call__")))
    )


def names(test) -> set[str]:
    return {cls.__name__ for cls in classes() if test(cls)}


KINDS = {
    "RewardKind": lambda: names(is_reward),
    "SizeRuleKind": lambda: set(lclip.SIZE_RULES),
    "AdapterKind": lambda: names(is_adapter),
    "PolicyKind": lambda: set(PRESETS),
    "SamplerKind": lambda: set(METHODS),
}


def asked(kind: str, folder: Path = HERE) -> set[str]:
    """The members whose test class inherits the kind: what stands behind `of`."""
    found = set()
    for path in folder.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if node and kind in bases:
                values = [
                    line.value for line in node.body if isinstance(line, ast.Assign) and "of" in targets(line)
                ]
                found |= {ast.unparse(value).rpartition(".")[2].strip("'\"") for value in values}
    return found


def targets(line: ast.Assign) -> list[str]:
    return [ast.unparse(target) for target in line.targets]


@pytest.mark.parametrize("kind", KINDS)
def test_every_member_is_asked(kind):
    members = KINDS[kind]()
    assert members, kind
    forgotten = sorted(members - asked(kind))
    assert not forgotten, (
        f"no test class asks {forgotten}. Write one that inherits {kind}, with `of` and `make`, beside the "
        "others of its kind: the table in CONTRIBUTING.md says where"
    )


def test_the_members_are_those_that_there_are():
    assert names(is_reward) >= {
        *("TextReward", "ImageReward", "TasteReward", "SafetyReward", "RewardSum", "CaptionReward"),
    }
    assert names(is_adapter) >= {"LatentAdapter"}


def test_rewards_are_offered_by_the_library_itself():
    """But for those of a world, which are its own."""
    own = {
        cls.__name__ for cls in classes() if is_reward(cls) and not cls.__module__.startswith("lclip.mini")
    }
    missing = sorted(own - set(lclip.__all__))
    assert not missing, f"import {missing} in lclip/__init__.py, with the names that it offers"


def test_a_forgotten_member_is_found(tmp_path):
    (tmp_path / "test_a.py").write_text(
        "class TestA(RewardKind):\n    of = lclip.TextReward\nclass TestB(SizeRuleKind):\n    of = 'resize'\n"
    )
    assert asked("RewardKind", tmp_path) == {"TextReward"}
    assert asked("SizeRuleKind", tmp_path) == {"resize"}
    assert {"TextReward", "DarkReward"} - asked("RewardKind", tmp_path) == {"DarkReward"}

    class DarkReward(lclip.LatentReward):
        def score(self, latents):
            return latents.mean((1, 2, 3))

    assert is_reward(DarkReward) and not is_reward(lclip.LatentReward)
