"""One key rule for files, folders and tar shards, in bulk, in training and on the command line."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_world import npy, pictures, read_csv, run, save_model, write_tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lclip
from lclip.data.files import read_latents, write_latents
from lclip.data.finding import find_shards
from lclip.data.reader import read_all, read_items, read_samples
from lclip.data.samples import Unusable, split_name
from lclip.data.tally import Tally
from lclip.training.samples import Decoder

Z = pictures(6)
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def tiny(tmp_path):
    return save_model(tmp_path)


def in_folder(folder: Path, members) -> Path:
    for name, content in members:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def both(tmp_path, members):
    """The same members in a folder and in a tar."""
    return in_folder(tmp_path / "folder", members), write_tar(tmp_path / "a.tar", sorted(members))


def read(path, key=None):
    return list(read_all(find_shards([path], 1), captions=True, latent_key=key))


TWO = [("img.v1.npy", npy(Z[0])), ("img.v2.npy", npy(Z[1])), ("img.txt", b"a cat"), ("sole.npy", npy(Z[2]))]
CLIP = [("0.latent.npy", npy(Z[0])), ("0.text_emb.npy", npy(torch.ones(77, 8))), ("0.txt", b"words")]


def test_without_a_choice_an_ambiguous_sample_is_one_row_that_names_members_and_option(tmp_path):
    for path in both(tmp_path, TWO):
        bad, good = read(path)
        assert bad.latents is None and bad.caption == "a cat"
        assert all(word in bad.problem for word in ("v1.npy", "v2.npy", "--latent-key"))
        assert torch.equal(good.latents, Z[2])


@pytest.mark.parametrize(("key", "index"), [("v1.npy", 0), ("v2.npy", 1), (".V2.npy", 1), ("*2.npy", 1)])
def test_a_choice_takes_that_member(tmp_path, key, index):
    for path in both(tmp_path, TWO):
        good, missing = read(path, key)
        assert torch.equal(good.latents, Z[index]) and good.caption == "a cat"
        assert missing.problem and "it holds npy" in missing.problem


def test_a_star_takes_every_array_by_itself_with_the_text_of_its_own_name(tmp_path):
    members = [
        ("sd1.5_1_.npy", npy(Z[0])), ("sd1.5_1_.txt", b"one"), ("sd1.5_2_.npy", npy(Z[1])),
        ("sd1.5_2_.txt", b"two"),
    ]  # fmt: skip
    for path in both(tmp_path, members):
        first, second = read(path, "*")
        assert (first.caption, second.caption) == ("one", "two")
        assert torch.equal(first.latents, Z[0]) and torch.equal(second.latents, Z[1])
        assert (first.file, first.item) != (second.file, second.item)


def test_latents_beside_text_embeddings_are_read_by_every_part_alike(tmp_path, tiny, capsys):
    decoder = Decoder(latents=(4, 8, 8), latent_key="latent.npy")
    for number, path in enumerate(both(tmp_path, CLIP)):
        (item,) = read(path, "latent.npy")
        assert torch.equal(item.latents, Z[0]) and item.caption == "words"
        (shard,) = find_shards([path])
        (sample,) = read_samples(shard, Tally())
        assert torch.equal(decoder(sample)["latents"], Z[0])
        with pytest.raises(Unusable, match="several latents.*text_emb.npy.*--latent-key"):
            Decoder(latents=(4, 8, 8))(sample)
        out = tmp_path / f"{number}.csv"
        asked = ("embed", path, "--model", tiny, "--device", "cpu", "--quiet", "--out", out)
        assert run(*asked, "--latent-key", "latent.npy") == 0
        assert [row["error"] for row in read_csv(out)] == [""]
        assert (
            json.loads((tmp_path / f"{number}.csv.settings.json").read_text())["latent_key"] == "latent.npy"
        )
        assert run(*asked, "--latent-key", "text_emb.npy") == 2
        assert "latent_key was 'latent.npy', now 'text_emb.npy'" in capsys.readouterr().err
        assert run(*asked) == 2


def test_a_training_that_was_begun_with_another_choice_is_refused(tmp_path, tiny, capsys):
    members = [
        (f"{i}.{name}", content)
        for i, z in enumerate(pictures(8))
        for name, content in (("a.npy", npy(z)), ("b.npy", npy(-z)), ("txt", b"blood"))
    ]
    write_tar(tmp_path / "a.tar", members)
    command = (
        "train", "--data", tmp_path / "a.tar", "--latent-clip", tiny, "--out", tmp_path / "run", "--steps", 2,
        "--batch-size", 4, "--warmup", 1, "--shuffle", 0, "--device", "cpu", "--space", "mini",
    )  # fmt: skip
    assert run(*command, "--latent-key", "a.npy") == 0
    (tmp_path / "run" / "model.safetensors").unlink()
    assert run(*command, "--latent-key", "b.npy") == 2
    assert "--latent-key a.npy" in capsys.readouterr().err


names = st.text("ab._-", min_size=1, max_size=5)


@relaxed
@given(stems=st.sets(names, min_size=1, max_size=5), captioned=st.booleans())
def test_a_folder_and_a_tar_of_the_same_members_give_the_same_samples(tmp_path_factory, stems, captioned):
    tmp_path = tmp_path_factory.mktemp("alike")
    members = [(f"{stem}.npy", npy(Z[0])) for stem in stems]
    members += [(f"{stem}.txt", stem.encode()) for stem in stems] if captioned else []
    groups: dict[str, list] = {}
    for name, content in sorted(members):
        groups.setdefault(name.partition(".")[0], []).append((name, content))
    expected = {key: sum(name.endswith("npy") for name, _ in group) for key, group in groups.items() if key}
    folder = in_folder(tmp_path / "folder", members)
    tar = write_tar(tmp_path / "a.tar", [member for group in groups.values() for member in group])
    if not expected:
        return
    for found in (read(folder), read(tar)):
        assert len(found) == len(expected)
        assert sum(item.latents is not None for item in found) == list(expected.values()).count(1)
    assert [item.caption for item in read(folder)] == [item.caption for item in read(tar)]


@given(
    folder=st.sampled_from(("", "a/", "a.b/c/")),
    stem=st.text("xy", min_size=1),
    rest=st.text("z.", max_size=4),
)
def test_a_key_ends_at_the_first_dot_of_the_base_name(folder, stem, rest):
    assert split_name(f"{folder}{stem}.{rest}.NPY") == (f"{folder}{stem}", f"{rest}.npy")
    assert split_name(f"{folder}.{stem}.npy")[1] == ""


def test_links_are_followed_once_and_loops_end(tmp_path):
    store, root = tmp_path / "store", tmp_path / "root"
    in_folder(store / "deep", [("s.npy", npy(Z[0]))])
    in_folder(root / "own", [("a.npy", npy(Z[1])), ("a.txt", b"own")])
    (root / "linked").symlink_to(store)
    (root / "again").symlink_to(store)
    (root / "own" / "loop").symlink_to(root)
    (store / "deep" / "up").symlink_to(store)
    (root / "file.npy").symlink_to(store / "deep" / "s.npy")
    (root / "own" / "twin.npy").symlink_to(root / "own" / "a.npy")
    found = [item.file for item in read(root)]
    assert len(found) == 2 and str(root / "own" / "a.npy") in found
    assert sorted(name.rpartition("/")[2] for name in found) == ["a.npy", "s.npy"]
    assert len(list(read_all(find_shards([root, store, root / "own", root / "own" / "a.npy"], 1)))) == 2


def test_a_link_to_a_file_outside_is_given_under_its_own_name_once(tmp_path):
    in_folder(tmp_path / "store", [("x.npy", npy(Z[0]))])
    root = in_folder(tmp_path / "root", [("b.txt", b"b")])
    for name in ("b.npy", "c.npy"):
        (root / name).symlink_to(tmp_path / "store" / "x.npy")
    (root / "gone.npy").symlink_to(tmp_path / "nowhere.npy")
    good, gone = read(root)
    assert good.file.endswith("root/b.npy") and good.caption == "b" and torch.equal(good.latents, Z[0])
    assert "no such file" in gone.problem


def test_pictures_behind_links_are_found(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.png").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "store")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert [path.name for path in lclip.find_pictures(tmp_path / "in")] == ["a.png"]


def npz(compressed=False, **arrays) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_kohyas_caches_are_read_size_by_size(tmp_path, compressed):
    small, wide = torch.randn(4, 8, 8), torch.randn(4, 8, 12)
    about = {"original_size_8x8": np.array([64, 64]), "crop_ltrb_8x8": np.array([0, 0, 64, 64])}
    content = npz(
        compressed, latents_8x8=small, latents_flipped_8x8=small.flip(2), latents_8x12=wide, **about,
        alpha_mask_8x8=np.ones((64, 64), np.uint8),
    )  # fmt: skip
    old = npz(compressed, latents=small, original_size=np.array([64, 64]), crop_ltrb=np.array([0, 0, 64, 64]))
    words = np.ones((1, 77, 8), np.float32)
    outputs = npz(hidden_state1=words, hidden_state2=words)
    members = [
        ("a_64x64_sdxl.npz", content),
        ("b.npz", old),
        ("b.txt", b"old"),
        ("b_te_outputs.npz", outputs),
    ]
    folder, tar = both(tmp_path, members)
    found = {(Path(item.file).name, item.item): item for item in read(folder)}
    assert set(found) == {("a_64x64_sdxl.npz", "8x8"), ("a_64x64_sdxl.npz", "8x12"), ("b.npz", "0")}
    assert torch.equal(found["a_64x64_sdxl.npz", "8x12"].latents, wide)
    assert torch.equal(found["b.npz", "0"].latents, small) and found["b.npz", "0"].caption == "old"
    items = [item for item in read(tar) if item.latents is not None]
    assert [item.item for item in items] == ["a_64x64_sdxl[8x8]", "a_64x64_sdxl[8x12]", "b"]
    with pytest.raises(ValueError, match="several sizes, 8x8, 8x12"):
        read_latents(folder / "a_64x64_sdxl.npz")


def test_an_archive_without_latents_says_what_it_holds(tmp_path):
    path = in_folder(tmp_path, [("a.npz", npz(x=np.ones(2), y=np.ones(2)))]) / "a.npz"
    with pytest.raises(ValueError, match="which array is the latents.*'x', 'y'"):
        read_latents(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="damaged"):
        read_latents(path)


@pytest.mark.parametrize("shape", [(2, 4, 1, 8, 8), (4, 1, 8, 8)])
@pytest.mark.parametrize("suffix", [".latent", ".npy", ".pt", ".safetensors"])
def test_one_frame_is_a_picture_and_is_given_back_as_it_was(tmp_path, shape, suffix):
    z = torch.randn(shape)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        path.write_bytes(npy(z))
    elif suffix == ".pt":
        torch.save({"samples": z}, path)
    else:
        write_latents(z, path.with_suffix(".latent")).rename(path)
    items = list(read_items(path))
    assert all(item.frame and item.latents.shape == (4, 8, 8) for item in items)
    assert torch.equal(torch.stack([item.latents for item in items]), z.squeeze(-3).view(-1, 4, 8, 8))


def test_select_gives_a_frame_back_as_a_frame(tmp_path, tiny):
    write_latents(Z[:2, :, None], tmp_path / "a.latent")
    asked = (
        "select",
        tmp_path / "a.latent",
        "--model",
        tiny,
        "--text",
        "blood",
        "--device",
        "cpu",
        "--quiet",
    )
    assert run(*asked, "-k", 2, "--save-to", tmp_path / "best") == 0
    from safetensors.torch import load_file

    for path in (tmp_path / "best").iterdir():
        assert list(load_file(path)["latent_tensor"].shape) == [1, 4, 1, 8, 8]


def test_a_video_is_refused_in_words_for_artists(tmp_path):
    path = write_latents(torch.randn(1, 16, 21, 8, 8), tmp_path / "a.latent")
    with pytest.raises(ValueError, match="video's latents of 21 frames.*Latent Cut"):
        read_latents(path)
