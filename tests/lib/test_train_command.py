"""`python -m lclip train` on tiny shards: by two processes, after a kill, with bad data."""

import os
import socket
import subprocess
import sys
import time

import pytest
import torch
from command_world import ROOT, npy, pictures, read_csv, run, save_model, start, write_shard, write_tar

import lclip
from lclip.training.optimizers import OPTIMIZERS
from lclip.training.vaes import load_encoder

several_processes = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch trains in one process only"
)
SHARES = {"one process": (1, 8), "two processes": (2, 4)}


@pytest.fixture
def tiny(tmp_path):
    return save_model(tmp_path)


def training(tiny, data, out, *more, steps=6, batch=8, shuffle=0):
    """Arguments of a run that begins with the tiny model's weights; shuffle 0 keeps the data's order."""
    settings = ("--steps", steps, "--batch-size", batch, "--shuffle", shuffle, "--learning-rate", 1e-3)
    where = ("--data", data, "--space", "mini", "--device", "cpu", "--out", out)
    return ("train", "--latent-clip", tiny, *where, *settings, "--warmup", 2, "--log-every", 1, *more)


def weights(folder) -> dict[str, torch.Tensor]:
    """As the last checkpoint holds them, in float32."""
    return torch.load(folder / "stage_1.pt", weights_only=True)["module"]


def furthest(some, others) -> float:
    """The largest difference of two models' weights."""
    assert some.keys() == others.keys()
    return max(float((some[name] - others[name]).abs().max()) for name in some)


def together(number, arguments) -> str:
    """The command by that many processes, as torchrun starts them. -> what it told."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(number)]
    launcher += ["--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "lclip"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    command = [*launcher, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@several_processes
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_processes_are_one_process_of_the_whole_batch(optimizer, tmp_path, tiny):
    """Each reads every second sample, so that both together read what one process reads."""
    shard = write_shard(tmp_path / "in" / "a.tar", pictures(32))
    chosen = ("--optimizer", optimizer)
    for name, (number, batch) in SHARES.items():
        together(number, training(tiny, shard, tmp_path / name, *chosen, batch=batch))
    one, two = (weights(tmp_path / name) for name in SHARES)
    assert furthest(one, two) < 1e-4
    assert furthest(one, lclip.load(tiny).state_dict()) > 2e-3
    # Without the other's negatives, or with gradients that are not averaged, it would be another training.
    assert run(*training(tiny, shard, tmp_path / "half", *chosen, batch=4)) == 0
    assert furthest(one, weights(tmp_path / "half")) > 1e-3


@several_processes
def test_what_the_second_process_skips_is_told_too(tmp_path, tiny):
    samples = pictures(16)
    samples[1] = float("nan")  # the second process reads every second sample
    shard = write_shard(tmp_path / "in" / "a.tar", samples)
    told = together(2, training(tiny, shard, tmp_path / "run", steps=2, batch=2))
    assert "stage 1 left out: 1 latents with NaN or infinity" in told


@pytest.fixture
def one_thread():
    """As many as `start` gives a process of its own: sums are then rounded in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_a_killed_run_goes_on_from_its_last_checkpoint_and_ends_the_same(tmp_path, tiny, caplog, one_thread):
    for index, part in enumerate(pictures(60).split(20)):
        write_shard(tmp_path / "in" / f"{index}.tar", part)
    more, many = ("--save-every", 4, "--log-every", 4), {"steps": 28, "shuffle": 7}
    killed = training(tiny, tmp_path / "in", tmp_path / "killed", *more, **many)
    checkpoint = tmp_path / "killed" / "stage_1.pt"
    with start(*killed, stderr=subprocess.DEVNULL) as process:
        while not checkpoint.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait(600)
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < step < 28 and not (tmp_path / "killed" / "model.safetensors").exists()
    assert run(*killed) == 0
    assert f"going on with stage_1 from step {step}" in caplog.messages
    caplog.clear()
    assert run(*training(tiny, tmp_path / "in", tmp_path / "whole", *more, **many)) == 0
    assert not [text for text in caplog.messages if "going on" in text]
    assert furthest(weights(tmp_path / "killed"), weights(tmp_path / "whole")) < 1e-5
    rows = read_csv(tmp_path / "killed" / "metrics.csv")
    assert [row["step"] for row in rows] == [str(number) for number in range(4, 29, 4)]


def bad_shard(path):
    """Three good samples and five bad ones, then a cut within the latents of a ninth."""
    z = pictures(9)
    nan = z[1].clone()
    nan[0, 0, 0] = float("nan")
    words = b"a photo of blood"
    samples = [
        (npy(z[0]), words), (npy(nan), words), (b"broken", words), (npy(z[2]), words),
        (npy(torch.randn(16, 8, 8)), words), (npy(z[3]), None), (npy(z[4]), b" "), (npy(z[5]), words),
        (npy(z[6]), words),
    ]  # fmt: skip
    members = []
    for index, (latents, text) in enumerate(samples):
        members += [(f"{index}.npy", latents)]
        members += [(f"{index}.txt", text)] if text is not None else []
    write_tar(path, members)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\x93NUMPY") + 200])


def test_what_is_bad_is_skipped_counted_and_named(tmp_path, tiny, caplog):
    bad_shard(tmp_path / "in" / "a.tar")
    write_shard(tmp_path / "in" / "b.tar", pictures(13))
    assert run(*training(tiny, tmp_path / "in", tmp_path / "run", steps=4, batch=4)) == 0
    skipped = [float(row["skipped"]) for row in read_csv(tmp_path / "run" / "metrics.csv")]
    assert skipped == [6, 6, 6, 6]  # five samples and the end of a shard, all before the fourth good sample
    (told,) = [text for text in caplog.messages if text.startswith("stage 1 left out")]
    reasons = ("latents with NaN or infinity", "unreadable latents", "latents of another shape")
    for reason in (*reasons, "without text", "empty text", "damaged shard"):
        assert f"1 {reason}" in told
    assert all(bool(torch.isfinite(weight).all()) for weight in weights(tmp_path / "run").values())


def test_data_without_one_usable_sample_ends_the_run(tmp_path, tiny, capsys):
    write_tar(tmp_path / "a.tar", [("0.npy", npy(torch.full((4, 8, 8), float("nan")))), ("0.txt", b"blood")])
    assert run(*training(tiny, tmp_path / "a.tar", tmp_path / "run")) == 2
    assert "nothing usable was found" in capsys.readouterr().err


def test_another_latent_space_is_refused_by_name(tmp_path, tiny, capsys):
    shard = write_shard(tmp_path / "a.tar", pictures(8))
    for wrong, names in (
        (("--space", "sdxl"), ("mini", "sdxl")),
        (("--vae", "mini-16"), ("mini-16", "4 channels")),
        (("--space", "nonsense"), ("nonsense",)),
    ):
        assert run(*training(tiny, shard, tmp_path / "run"), *wrong) == 2
        told = capsys.readouterr().err.lower()
        assert all(name in told for name in names), told
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_vae_that_knows_its_space_is_no_other_of_the_same_shape():
    vae = load_encoder("mini")
    vae.check(lclip.space_named("mini"))
    with pytest.raises(ValueError, match="reads SDXL.*the VAE mini makes the mini world's"):
        vae.check(lclip.space_named("sdxl"))
