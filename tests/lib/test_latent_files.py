"""Latents in files, folders and shards: what each format gives, in which order, and what broken ones say."""

import io
import os
import pickle
import shutil
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lclip
from lclip.data import folders
from lclip.data.files import parse_latents, read_latents, write_latents
from lclip.data.finding import find_shards
from lclip.data.reader import read_all, read_items
from lclip.data.shards import MAX_MEMBER_BYTES, Shard

SEEN = torch.arange(2 * 4 * 3 * 5, dtype=torch.float32).reshape(2, 4, 3, 5) / 8


def found_in(sources) -> list[Path]:
    """The files of all shards."""
    return [path for shard in find_shards(sources, 1) for path in shard.files or (Path(shard.name),)]


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def pt(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def host_file(z, marked=True) -> bytes:
    """What the host's SaveLatent writes; its first versions wrote no mark."""
    mark = {"latent_format_version_0": torch.tensor([])} if marked else {}
    return safetensors.torch.save({"latent_tensor": z.contiguous(), **mark}, {"prompt": "{}"})


GOOD = {
    "host.latent": host_file(SEEN),
    "old.latent": host_file(SEEN * 0.18215, marked=False),
    "one.safetensors": safetensors.torch.save({"anything": SEEN}),
    "named.safetensors": safetensors.torch.save({"latents": SEEN, "mask": torch.ones(3)}),
    "half.safetensors": safetensors.torch.save({"z": SEEN.bfloat16()}),
    "tensor.pt": pt(SEEN),
    "half.pt": pt(SEEN.half()),
    "wire.pt": pt({"samples": SEEN, "batch_index": [0, 1], "noise_mask": torch.ones(1)}),
    "plain.npy": npy(SEEN),
    "half.npy": npy(SEEN.half()),
    "double.npy": npy(SEEN.double()),
    "columns.npy": npy(np.asfortranarray(SEEN.numpy())),
    "big-endian.npy": npy(SEEN.numpy().astype(">f4")),
    "UPPER.NPY": npy(SEEN),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_format_gives_the_same_latents(tmp_path, name):
    (tmp_path / name).write_bytes(GOOD[name])
    torch.testing.assert_close(read_latents(tmp_path / name), SEEN, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.stack(parse_latents(GOOD[name], name)), SEEN, rtol=1e-6, atol=1e-6)


def test_one_latent_without_a_batch_is_a_batch_of_one(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(SEEN[1]))
    assert torch.equal(read_latents(tmp_path / "a.npy"), SEEN[1:])


def test_what_is_written_is_in_the_hosts_format(tmp_path):
    path = write_latents(SEEN, tmp_path / "a.latent")
    content = safetensors.torch.load_file(path)
    assert set(content) == {"latent_tensor", "latent_format_version_0"}
    assert torch.equal(content["latent_tensor"], SEEN) and torch.equal(read_latents(path), SEEN)


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def broken(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Files that are not right, and what their error says."""
    forged = pt(SEEN).replace(struct.pack("<B", 0x80), b"\x81", 1)
    header = npy(SEEN)
    objects = io.BytesIO()
    np.save(objects, np.array([Runs(canary)], dtype=object), allow_pickle=True)
    return {
        "empty.npy": (b"", "not a .npy file"),
        "text.npy": (b"<html>not found</html>", "not a .npy file"),
        "short.npy": (header[:-4], "truncated"),
        "long.npy": (header + b"x", "truncated"),
        "huge.npy": (header.replace(b"(2, 4, 3, 5)", b"(9, 9, 9, 9)"), "truncated"),
        "negative.npy": (header.replace(b"(2, 4, 3, 5)", b"(2, 4, 3,-5)"), "damaged"),
        "code.npy": (header.replace(b"(2, 4, 3, 5)", b"__import__()"), "not a .npy file"),
        "objects.npy": (objects.getvalue(), "expected float16"),
        "whole-numbers.npy": (npy(np.zeros((1, 4, 2, 2), np.int64)), "expected float16"),
        "complex.npy": (npy(np.zeros((1, 4, 2, 2), np.complex64)), "expected float16"),
        "flat.npy": (npy(np.zeros((4, 2))), r"shape \[4, 2\]"),
        "video.npy": (npy(np.zeros((1, 4, 2, 2, 2))), "2 frames.*Latent Cut"),
        "none.npy": (npy(np.zeros((0, 4, 2, 2))), r"shape \[0, 4, 2, 2\]"),
        "empty.latent": (b"", "damaged"),
        "short.latent": (GOOD["host.latent"][:-4], "damaged"),
        "header.latent": (struct.pack("<Q", 1 << 60) + b"{}", "damaged"),
        "two.safetensors": (safetensors.torch.save({"a": SEEN, "b": SEEN + 1}), "which tensor"),
        "whole.safetensors": (safetensors.torch.save({"a": SEEN.long()}), "floating-point"),
        "empty.pt": (b"", "damaged"),
        "short.pt": (GOOD["tensor.pt"][:-40], "damaged"),
        "forged.pt": (forged, "damaged|refused"),
        "list.pt": (pt([SEEN]), "holds a list"),
        "names.pt": (pt({"a": 1}), "which tensor is the latents"),
        "expanded.pt": (pt(torch.zeros(1, 1, 1, 1).expand(9, 4, 99, 99)), "more than the file holds"),
        "harmful.pt": (pt(Runs(canary)), "refused"),
        "bare.pt": (pickle.dumps(Runs(canary)), "refused.*torch.save did not write"),
        "data.pt": (pickle.dumps([1.5]), "torch.save did not write"),
    }


@pytest.mark.parametrize("name", broken(Path("canary")))
def test_a_broken_file_has_its_own_error_and_runs_nothing(tmp_path, name):
    canary = tmp_path / "canary"
    content, says = broken(canary)[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_latents(tmp_path / name)
    with pytest.raises(ValueError, match=says):
        parse_latents(content, name)
    (item,) = read_all(find_shards([tmp_path / name]))
    assert item.latents is None and item.file.endswith(name) and item.problem and "\n" not in item.problem
    assert not canary.exists()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(GOOD)), place=st.floats(0, 1), value=st.binary(min_size=1, max_size=8))
def test_damage_anywhere_is_an_error_or_latents_of_that_size(name, place, value):
    content = bytearray(GOOD[name])
    start = int(place * len(content))
    content[start : start + len(value)] = value
    try:
        found = parse_latents(bytes(content), name)
    except ValueError:
        return
    assert sum(latents.numel() for latents in found) * 2 <= len(content)


def test_files_that_are_not_there_or_of_another_kind_are_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match="nothing.npy"):
        read_latents(tmp_path / "nothing.npy")
    with pytest.raises(FileNotFoundError, match="nothing"):
        list(find_shards([tmp_path / "nothing"]))
    with pytest.raises(ValueError, match=r"\.png.*expected"):
        list(find_shards([tmp_path / "a.png"]))
    with pytest.raises(ValueError, match="no latents in the folder"):
        list(find_shards([tmp_path / "folder"]))


def test_a_folder_is_walked_in_order_whatever_the_number_of_names(tmp_path, monkeypatch):
    names = [f"{number:03}.npy" for number in range(50)] + ["b/1.npy", "b/2.tar", "c/d/e.latent"]
    for name in [*names, ".hidden.npy", ".folder/x.npy", "notes.txt", "x.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    for lot in (1, 7, 8192):
        monkeypatch.setattr(folders, "NAMES_AT_ONCE", lot)
        assert [path.relative_to(tmp_path).as_posix() for path in found_in([tmp_path])] == names


def test_no_file_is_given_twice(tmp_path):
    for name in ("a.npy", "b/c.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ("b/c.npy", ".", "a.npy", "b", "b/..")
    found = found_in([tmp_path / name for name in names])
    assert sorted(path.name for path in found) == ["a.npy", "c.npy"]


def test_a_folders_captions_are_beside_its_latents(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(SEEN))
    (tmp_path / "a.txt").write_text("  a red fox \n")
    (tmp_path / "b.npy").write_bytes(npy(SEEN[0]))
    found = [(item.item, item.caption) for item in read_all(find_shards([tmp_path], 1), captions=True)]
    assert found == [("0", "a red fox"), ("1", "a red fox"), ("0", None)]
    assert all(item.caption is None for item in read_items(tmp_path / "a.npy"))


def test_odd_names_fit_on_a_line_of_a_table(tmp_path):
    odd = os.fsdecode(b"line\nbreak \xff.npy")
    (tmp_path / odd).write_bytes(npy(SEEN[0]))
    (item,) = read_all(find_shards([tmp_path], 1))
    assert item.file.encode("utf-8").endswith(b"line\\nbreak \\udcff.npy") and item.latents is not None


def shard(path: Path, members: list[tuple[str, bytes]], mode="w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


SAMPLES = [
    ("one/0.npy", npy(SEEN[0])),
    ("one/0.txt", b"first"),
    ("one/0.json", b"{}"),
    ("1.txt", b"second"),
    ("1.latent", host_file(SEEN[:1])),
    ("2.vae.safetensors", safetensors.torch.save({"z": SEEN[1]})),
    ("3.pt", pt(SEEN)),
]


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
def test_a_shard_gives_every_sample_with_its_caption(tmp_path, name, mode):
    items = list(read_items(shard(tmp_path / name, SAMPLES, mode)))
    assert [(item.item, item.caption) for item in items] == [
        ("one/0", "first"),
        ("1", "second"),
        ("2", None),
        ("3[0]", None),
        ("3[1]", None),
    ]
    expected = [SEEN[0], SEEN[0], SEEN[1], SEEN[0], SEEN[1]]
    assert all(torch.equal(item.latents, z) for item, z in zip(items, expected, strict=True))


def test_bad_samples_are_problems_and_the_others_are_read(tmp_path):
    link = tarfile.TarInfo("link.npy")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (
            ("0.npy", npy(SEEN[0])),
            ("1.npy", b"broken"),
            ("2.npy", npy(SEEN[0])),
            ("2.pt", pt(SEEN[0])),
            ("3.txt", b"only a text"),
            ("4.pt", pt(Runs(tmp_path / "canary"))),
            ("_meta.json", b"{}"),
            ("../../5.npy", npy(SEEN[1])),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        archive.addfile(link)
    items = {item.item: item for item in read_items(tmp_path / "a.tar")}
    says = {
        "1": "not a .npy",
        "2": "several latents",
        "3": "no latents",
        "4": "refused",
        "link": "plain file",
    }
    assert {key for key, item in items.items() if item.problem} == set(says)
    assert all(text in items[key].problem for key, text in says.items())
    assert torch.equal(items["../../5"].latents, SEEN[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_a_member_that_claims_too_much_is_passed_over(tmp_path):
    info = tarfile.TarInfo("0.npy")
    info.size = MAX_MEMBER_BYTES + 1
    (tmp_path / "a.tar").write_bytes(info.tobuf() + b"x" * 512)
    first, *_ = read_items(tmp_path / "a.tar")
    assert str(MAX_MEMBER_BYTES) in first.problem


def test_a_header_that_claims_too_much_is_damage(tmp_path):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    path = shard(tmp_path / "a.tar", SAMPLES[:1])
    path.write_bytes(path.read_bytes()[:1024] + info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    first, last = read_items(path)
    assert torch.equal(first.latents, SEEN[0]) and "claims" in last.problem


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz")])
def test_wherever_a_shard_is_cut_it_says_so_and_gives_what_is_whole(tmp_path, name, mode):
    noise = np.random.default_rng(0).normal(size=(6, 4, 8, 8))  # gzip cannot make this small
    whole = shard(tmp_path / name, [(f"{i}.npy", npy(z)) for i, z in enumerate(noise)], mode).read_bytes()
    content = len(whole) if mode == "w:gz" else 6 * (512 + len(npy(noise[0])) + 384)
    counts = set()
    for cut in range(0, content, 384):
        (tmp_path / name).write_bytes(whole[:cut])
        items = []
        try:
            items = list(read_items(tmp_path / name))
        except ValueError as error:
            assert "not a tar shard" in str(error)
        else:
            assert items[-1].problem and not any(item.problem for item in items[:-1])
        counts.add(len(items))
        for item, z in zip(items[:-1], noise, strict=False):
            assert torch.equal(item.latents, torch.tensor(z, dtype=torch.float32))
    assert counts - {7} == {0, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(range(1, 256)) * 9])
def test_what_is_no_shard_cannot_be_read(tmp_path, content):
    for name in ("a.tar", "a.tar.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="not a tar shard"):
            list(read_items(tmp_path / name))
        (item,) = read_all([Shard(str(tmp_path / name))])
        assert item.latents is None and item.file.endswith(name)


def test_an_empty_shard_is_a_problem(tmp_path):
    (item,) = read_items(shard(tmp_path / "a.tar", []))
    assert "empty" in item.problem


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there alone")
def test_a_file_whose_name_is_no_utf8_is_not_called_damaged(tmp_path):
    """As files of old disks are called; safetensors opens names in UTF-8 alone."""
    z = torch.randn(2, 4, 8, 8)
    for name in ("plain.latent", "plain.safetensors"):
        write_latents(z, tmp_path / name)
        old = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9" + name.encode()))
        shutil.copy(tmp_path / name, old)
        assert torch.equal(read_latents(old), z)
    old.write_bytes(old.read_bytes()[:-1])
    with pytest.raises(lclip.CheckpointError, match="damaged or truncated"):
        read_latents(old)
