"""Settings of evaluate: what is wrong, or would be ignored, is refused by name before anything is made."""

import argparse

import pytest

from lclip.commands import main, make_parser
from lclip.commands.evaluate import TASKS
from lclip.commands.evaluate_settings import BELONGS

PIPELINE = ["--model", "gone.pt", "--pipeline", "gone", "PROMPTS"]
COMFYUI = [
    "--model",
    "gone.pt",
    "--comfyui",
    "http://127.0.0.1:9",
    "--workflow",
    "plain=gone.json",
    "PROMPTS",
]
FILES = ["--model", "gone.pt", "FOLDER"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["geneval", *PIPELINE, "--candidates", "1"], "--candidates is 1; expected 2 or more"),
        (["geneval", *PIPELINE, "--strength", "nan"], "--strength is nan; expected a number above 0"),
        (["geneval", *PIPELINE, "--strength", "inf"], "--strength is inf; expected"),
        (["geneval", *PIPELINE, "--strength", "0"], "--strength is 0.0; expected"),
        (["geneval", *PIPELINE, "--guidance-scale", "nan"], "--guidance-scale is nan; expected"),
        (["geneval", *PIPELINE, "--guidance-scale", "-1"], "--guidance-scale is -1.0; expected"),
        (["geneval", *PIPELINE, "--size", "100"], "--size is 100; expected a multiple of 8"),
        (["geneval", *PIPELINE, "--space", "sdxxl"], "there is no latent space 'sdxxl'; expected one of"),
        (["geneval", *COMFYUI, "--timeout", "nan"], "--timeout is nan; expected a number of seconds"),
        (["geneval", "--mini", "--candidates", "1"], "--candidates is 1; expected 2 or more"),
        (["bias", "--mini", "--margin", "nan"], "margin is nan"),
        *((["geneval", "--mini", name, value], f"{name} is for --pipeline, and changes nothing with --mini")
          for name, value in (("--steps", "4"), ("--size", "64"), ("--guidance-scale", "0"))),
        (["all", "--mini", "--space", "sdxl"], "--space is for --pipeline, and changes nothing with --mini"),
        (["i2p", "--mini", "--classifier", "x"], "--classifier is for --pipeline and --comfyui"),
        (["imagenet", "--mini", "--classes", "x"], "--classes is for pictures or latents"),
        (["retrieval", "--mini", "--captions", "x"], "--captions is for pictures or latents"),
        *((["geneval", *COMFYUI, name, "8"], f"{name} is for --pipeline")
          for name in ("--steps", "--size", "--guidance-scale", "--iterations", "--candidates")),
        (["geneval", *COMFYUI, "--space", "sdxl"], "changes nothing with --comfyui"),
        (["geneval", *PIPELINE, "--timeout", "9"], "--timeout is for --comfyui, and changes nothing"),
        (["geneval", *PIPELINE, "--workers", "2"], "--workers is of imagenet and retrieval and bias;"),
        (["geneval", *PIPELINE, "--size-rule", "crops"], "--size-rule is of imagenet"),
        *((["bias", "--mini", name, value], f"{name} is for what reads pictures or latents; with --mini")
          for name, value in (("--workers", "2"), ("--size-rule", "crops"))),
        (["geneval", *PIPELINE, "--vae", "mini"], "--vae is of imagenet"),
        (["i2p", *PIPELINE, "--candidates", "4"], "--candidates is of geneval and compbench and bias; i2p"),
        (["i2p", *PIPELINE, "--unsafe-labels", "a"], "name it by --classifier"),
        (["imagenet", *FILES, "--steps", "1"], "--steps is of geneval"),
        (["retrieval", *FILES, "--classes", "x"], "--classes is of imagenet; retrieval does not ask for it"),
        (["bias", *FILES, "--concepts", "CONCEPTS", "--samples", "3"],
         "--samples is for --pipeline and --comfyui and --mini, and changes nothing with pict"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong_or_ignored_is_one_line(tmp_path, capsys, arguments, said):
    """Nothing is opened for it: neither model, pipeline nor workflow is there."""
    (tmp_path / "prompts.jsonl").write_text('{"tag": "x", "prompt": "a red circle"}\n')
    (tmp_path / "prompts.csv").write_text("prompt,categories\na,b\n")
    (tmp_path / "concepts.txt").write_text("a | b\n")
    prompts = "prompts.csv" if arguments[0] == "i2p" else "prompts.jsonl"
    places = {"PROMPTS": prompts, "CONCEPTS": "concepts.txt", "FOLDER": "."}
    words = [str(tmp_path / places[word]) if word in places else word for word in arguments]
    assert main(["evaluate", *words, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(err) == 1 and said in err[0], err
    assert not (tmp_path / "out").exists()


def parser_of_evaluate():
    actions = make_parser()._actions
    commands = next(each for each in actions if isinstance(each, argparse._SubParsersAction))
    return commands.choices["evaluate"]


def test_every_setting_is_known_to_belong_somewhere():
    """A new one must be written down: it would be ignored in silence."""
    every = {action.dest for action in parser_of_evaluate()._actions}
    general = {"help", "task", "inputs", "seed", "pipeline", "comfyui", "model", "mini", "device", "dtype"}
    assert every - general - {"batch", "out", "overwrite", "quiet"} == set(BELONGS)


def test_every_task_has_a_line_in_the_help_and_a_row_in_the_guide():
    from pathlib import Path

    import lclip

    about = parser_of_evaluate().description
    page = (Path(lclip.__file__).parents[1] / "docs" / "evaluate.md").read_text("utf-8")
    for task in (*TASKS, "all"):
        assert any(line.startswith(f"{task} ") for line in about.splitlines()), task
        assert f"| `{task}` |" in page, task
