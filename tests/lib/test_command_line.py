"""The shell's side of `python -m lclip`: help, exit codes, small commands."""

import json
import re
import signal
import subprocess
import sys

import pytest
import torch
from command_world import ROOT, model, pictures, run, save_model, shell, start, write_files, write_shard
from safetensors import safe_open
from safetensors.torch import save_file
from safety_worlds import policy

import lclip
from lclip.commands import COMMANDS, bench, main
from lclip.data.files import write_latents


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and f"python -m lclip {command} " in text.partition("example:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_in_an_example_exist(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text, _, example = capsys.readouterr().out.partition("example:")
    known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))
    own = {"--threads"} if command == "bench" else set()  # those of the benchmarks
    used = re.findall(r"(?<=\s)--?[a-z][\w-]*", example.replace("python -m lclip", ""))
    assert set(used) - own <= known


def test_the_list_of_commands_is_complete(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^ +{command} +\w", text, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["info"], ["info", "x", "--odd"], ["score", "x", "--mini"], ["select", "-k", "0"]],
)
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ("reno", "--prompt", "a", "--out", "o", "--seed"),
        ("explore", "--mini", "--prompt", "a", "--seeds"),
        ("evaluate", "--mini", "all", "--out", "o", "--seed"),
        ("adapter", "--mini", "--out", "o.safetensors", "--seed"),
        ("demo", "--out", "o", "--seed"),
        ("train", "in", "--out", "o", "--seed"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("seed", [-1, 2**65])
def test_a_seed_that_no_generator_takes_is_refused(command, seed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(*command, seed)
    assert ended.value.code == 2
    assert f"the seed is {seed}; expected 0 to " in capsys.readouterr().err.splitlines()[-1]


def test_what_cannot_be_done_ends_with_2_and_one_line(tmp_path, capsys):
    inputs = write_files(tmp_path / "in", pictures(1))
    for arguments in (
        ["info", tmp_path / "nothing.pt"],
        ["score", "--mini", "--text", "a", tmp_path / "nothing.npy"],
        ["score", "--model", tmp_path / "nothing.pt", "--text", "a", inputs],
        ["score", "--mini", "--text", "a", "--text", "a", inputs],
        ["score", "--mini", "--text", "file", inputs],
        ["score", "--mini", "--text", "a", inputs, "--out", tmp_path / "x.json"],
        ["score", "--mini", "--text", "a", inputs, "--out", tmp_path / "no" / "x.csv"],
        ["score", "--mini", "--text", "a", inputs, "--out", tmp_path / "x.csv", "--workers", "2"],
        ["score", "--mini", "--text", "a", inputs, "--device", "nonsense"],
        ["classify", "--mini", "--label", "a", "--template", "none", inputs],
        ["safety", "--mini", "--policy", inputs / "00000.npy", inputs],
        ["safety", "--mini", "--preset", "i2p", "--strictness", "very", inputs],
        ["reno", "--prompt", " ", "--out", tmp_path / "reno"],
    ):
        assert run(*arguments) == 2, arguments
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"lclip {arguments[0]}: ")


def test_importing_the_library_imports_no_command():
    code = "import sys, lclip; lclip.LatentCLIP; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "lclip.model.latent_clip" in result.stdout
    assert "lclip.commands" not in result.stdout and "lclip.bulk" not in result.stdout


def test_a_closed_pipe_is_no_error(tmp_path):
    file = save_model(tmp_path)
    inputs = write_files(tmp_path / "in", pictures(1)) / "00000.npy"
    with start("score", "--model", file, "--text", "blood", inputs) as process:
        process.stdout.close()
        process.wait(600)
        assert "Traceback" not in process.stderr.read() and process.returncode == 141


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_an_interrupt_ends_with_130(tmp_path):
    file, inputs = save_model(tmp_path), write_files(tmp_path / "in", pictures(200))
    with start("score", "--model", file, "--text", "blood", "--batch", "1", inputs) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 130 and "Traceback" not in err


def test_convert_writes_a_small_file_and_never_over_another(tmp_path, capsys):
    source = tmp_path / "training.pt"
    weights = {f"module.{name}": weight for name, weight in torch_names(model()).items()}
    torch.save({"state_dict": weights, "optimizer": {"moments": torch.zeros(50_000)}}, source)
    assert run("convert", source) == 0
    target = tmp_path / "training.safetensors"
    assert str(target) in capsys.readouterr().out and target.stat().st_size < source.stat().st_size / 2
    with safe_open(target, "pt") as file:
        assert file.metadata()["source_name"] == "training.pt"
        assert file.get_tensor("visual.proj").dtype == torch.float16
    before = target.read_bytes()
    assert run("convert", source) == 2 and target.read_bytes() == before
    assert run("convert", source, "--overwrite", "--dtype", "float32") == 0 and target.read_bytes() != before


def torch_names(clip):
    from lclip.model.latent_clip import stored_name

    return {stored_name(name): tensor for name, tensor in clip.state_dict().items()}


def test_info_tells_a_checkpoint(tmp_path, capsys):
    from lclip.checkpoints.fingerprint import fingerprint

    assert run("info", save_model(tmp_path), "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "Latent-CLIP" and facts["fingerprint"] == fingerprint(model())
    assert "mini world" in facts["reads"] and "4 channels, 8x8 cells" in facts["reads"]
    assert facts["embedding"] == 8 and "width 16, 1 layers, 2 heads" in facts["image tower"]


def test_info_tells_latents_shards_policies_and_others(tmp_path, capsys):
    z = pictures(3)
    write_latents(z, tmp_path / "a.latent")
    save_file({"latents": z}, tmp_path / "b.safetensors")
    torch.save(z, tmp_path / "c.pt")
    for name in ("a.latent", "b.safetensors", "c.pt"):
        assert run("info", tmp_path / name, "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["kind"] == "latents" and facts["latents"] == 3
        assert facts["channels x height x width"] == "4x8x8 (3)" and facts["spread"].startswith("6 to 6 ")
    shard = write_shard(tmp_path / "d.tar", z)
    shard.write_bytes(shard.read_bytes()[:6800])  # within the third sample
    assert run("info", shard, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["latents"], facts["captions"]) == ("tar shard of latents", 2, 2)
    assert facts["cannot be read"].startswith("1, ")
    (tmp_path / "p.json").write_text(policy().to_json())
    assert run("info", tmp_path / "p.json") == 0
    assert re.search(r"^kind +safety policy\nname +test\n", capsys.readouterr().out, re.MULTILINE)
    save_file({"w": z}, tmp_path / "e.safetensors", {"format": "latent-clip-thing", "version": "7"})
    assert run("info", tmp_path / "e.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "latent-clip-thing"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>", b"\x80\x02c", b"{}"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".latent", ".npy", ".tar", ".json"])
def test_info_on_what_is_nothing_ends_with_2(tmp_path, content, suffix):
    (tmp_path / f"x{suffix}").write_bytes(content)
    assert run("info", tmp_path / f"x{suffix}") == 2


def test_reno_improves_the_reward_and_writes_what_it_says(tmp_path, capsys):
    from PIL import Image

    out = tmp_path / "out"
    arguments = ("--prompt", "a red star on a white ground", "--pictures", 2, "--iterations", 4, "--quiet")
    assert run("reno", *arguments, "--out", out) == 0
    before, after = map(float, re.findall(r"(-?\d+\.\d+) (?:before|after)", capsys.readouterr().out))
    assert after > before
    assert Image.open(out / "before.png").size == Image.open(out / "after.png").size == (2 * 256 + 8, 256)
    assert len((out / "curve.csv").read_text().splitlines()) == 1 + 2 * 4
    best, noise = (lclip.data.files.read_latents(out / f"{name}.latent") for name in ("best", "noise"))
    from lclip.mini.world import load_world

    with torch.no_grad():
        again = load_world().generate(["a red star on a white ground"], noise)
    torch.testing.assert_close(again, best, rtol=1e-4, atol=1e-4)


def test_bench_without_the_benchmarks_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    assert run("bench", "cost") == 2
    assert "source checkout" in capsys.readouterr().err


def test_bench_hands_its_arguments_over(tmp_path):
    listed = shell("bench", "--list", cwd=tmp_path)
    assert listed.returncode == 0 and "--tiny" in listed.stdout
    refused = shell("bench", "nonsense", "--tiny", cwd=tmp_path)
    assert refused.returncode == 2 and "no section nonsense" in refused.stderr
