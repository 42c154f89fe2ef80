"""What `import lclip` offers, and what it loads before that is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

import lclip
from lclip.bulk.engines import ENGINES
from lclip.commands import COMMANDS, options
from lclip.safety.policy import STRICTNESS
from lclip.safety.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]


def loaded_by(*arguments: str) -> str:
    command = [sys.executable, "-X", "importtime", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stderr


def test_every_name_is_there():
    assert len(lclip.__all__) > 60
    for name in lclip.__all__:
        assert getattr(lclip, name) is not None
    assert set(lclip.__all__) <= set(dir(lclip))


def test_a_name_that_is_not_offered_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lclip.nothing
    assert not hasattr(lclip, "nothing") and not hasattr(lclip.mini, "nothing")


def test_the_search_is_a_function_whatever_was_imported_first():
    code = (
        "import lclip.reno.types, lclip; assert callable(lclip.reno), lclip.reno; "
        "from lclip import *; assert callable(reno); "
        "from lclip.reno.run import reno as same; assert reno is same"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)


def test_the_mini_world_is_known_from_the_first_moment_on():
    code = (
        "from lclip.latents.spaces import LATENT_SPACES\nassert 'mini' in LATENT_SPACES\n"
        "from lclip.latents.neutral import neutral_latents\n"
        "assert neutral_latents('mini', (1, 4, 8, 8)).std() > 0"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids=lambda words: "".join(words))
def test_helps_load_no_torch(words):
    assert " torch" not in loaded_by("-m", "lclip", *words, "--help")


def test_torch_would_be_seen():
    assert " torch" in loaded_by("-c", "import lclip; lclip.LatentCLIP")


def test_what_helps_name_is_what_is_registered():
    assert sorted(lclip.SIZE_RULES) == sorted(options.SIZE_RULES)
    assert sorted(ENGINES) == sorted(options.ENGINES)
    assert sorted(PRESETS) == sorted(options.PRESETS)


def test_helps_name_what_can_be_chosen(capsys):
    from lclip.commands import main

    for command in ("score", "safety"):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "auto, plain, ray" in text
        assert command != "score" or ", ".join(sorted(lclip.SIZE_RULES)) in text
        assert command != "safety" or (", ".join(STRICTNESS) in text and "i2p, mini" in text)
    assert {"score", "safety"} <= set(COMMANDS)


def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(capsys):
    from lclip.commands import main

    with pytest.raises(SystemExit):
        main(["score", "--mini", "--text", "x", "--size-rule", "stretch", "."])
    assert "'stretch' (choose from" in capsys.readouterr().err
