"""Files of torch.save, of every layout and age, give what PyTorch's own reader gives."""

import io
import os
import struct
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lclip
from lclip.checkpoints.pickles import read_pickle
from lclip.data.files import parse_latents, read_latents

LAYOUTS = {
    "zip": {},
    "before 1.6": {"_use_new_zipfile_serialization": False},
    "zip, protocol 4": {"pickle_protocol": 4},
    "before 1.6, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}
DTYPES = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def saved(content, path: Path, layout: str) -> Path:
    torch.save(content, path, **LAYOUTS[layout])
    return path


def same(some, other) -> bool:
    if isinstance(some, torch.Tensor):
        return some.dtype == other.dtype and some.shape == other.shape and torch.equal(some, other)
    if isinstance(some, dict):
        return list(some) == list(other) and all(same(some[name], other[name]) for name in some)
    if isinstance(some, (list, tuple)):
        return len(some) == len(other) and all(map(same, some, other))
    return type(some) is type(other) and some == other


@st.composite
def tensors(draw):
    """Of any type and shape, perhaps a view: transposed, cut, expanded."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    z = torch.arange(int(np.prod(shape)) if shape else 1).reshape(shape).to(draw(st.sampled_from(DTYPES)))
    if z.ndim > 1 and draw(st.booleans()):
        z = z.transpose(0, 1)
    if z.ndim and draw(st.booleans()):
        z = z[draw(st.integers(0, z.shape[0])) :]
    return z.unsqueeze(-1).expand(*z.shape, 3) if draw(st.booleans()) else z


leaves = st.one_of(
    tensors(),
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False),
    st.text(),
)
contents = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers(0, 1 << 40)), inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4).map(OrderedDict),
    ),
    max_leaves=12,
)


@relaxed
@given(content=contents, layout=st.sampled_from(sorted(LAYOUTS)))
def test_the_content_is_what_torch_load_gives(tmp_path, content, layout):
    path = saved(content, tmp_path / "a.pt", layout)
    expected = torch.load(path, weights_only=False)  # of a file of this test
    assert same(expected, read_pickle(path))
    assert same(expected, read_pickle(path, path.read_bytes()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_that_share_their_numbers_share_them_still(tmp_path, layout):
    z = torch.arange(24.0)
    content = {"whole": z, "half": z[12:], "turned": z.view(4, 6).T, "again": z}
    found = read_pickle(saved(content, tmp_path / "a.pt", layout))
    assert same(content, found)
    found["whole"][20] = -1
    assert found["half"][8] == -1 and found["turned"][2, 3] == -1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_of_any_age_is_loaded(tmp_path, layout):
    config = lclip.LatentCLIPConfig(
        embed_dim=8, channels=4, patch_size=4, grid=2, vision_width=8, vision_layers=1, vision_heads=1,
        text_width=8, text_layers=1, text_heads=1, context_length=8, vocab_size=6, latent_space="sdxl",
        tokenizer="words",
    )  # fmt: skip
    torch.manual_seed(0)
    model = lclip.LatentCLIP(config, tokenizer=lclip.WordTokenizer(["a", "b"], 8))
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    weights = {name.replace("log_logit_scale", "logit_scale"): value for name, value in weights.items()}
    content = {"epoch": 1, "state_dict": OrderedDict(weights), "optimizer": {"lr": np.float64(0.1)}}
    loaded = lclip.load(saved(content, tmp_path / "a.pt", layout))
    assert all(map(torch.equal, loaded.parameters(), model.parameters()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_latents_of_any_age_are_read_from_files_and_from_bytes(tmp_path, layout):
    z = torch.randn(2, 4, 3, 5)
    path = saved({"samples": z}, tmp_path / "a.pt", layout)
    assert torch.equal(read_latents(path), z)
    assert torch.equal(torch.stack(parse_latents(path.read_bytes(), "a.pt")), z)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_parameter_is_a_tensor(tmp_path, layout):
    weight, marked = torch.nn.Parameter(torch.randn(3, 5)), torch.nn.Parameter(torch.randn(2))
    marked.note = "what someone wrote on it"
    found = read_pickle(saved({"a": weight, "b": marked}, tmp_path / "a.pt", layout))
    assert same({"a": weight.detach(), "b": marked.detach()}, found)
    assert all(type(value) is torch.Tensor and not value.requires_grad for value in found.values())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_of_one_byte_are_read(tmp_path, layout, dtype):
    z = torch.randn(4, 6).to(dtype).T[2:]
    found = read_pickle(saved({"z": z}, tmp_path / "a.pt", layout))["z"]
    assert found.dtype == dtype and torch.equal(found.float(), z.float())


@pytest.mark.parametrize(
    "z", [torch.ones(2, dtype=torch.uint16), torch.ones(2) * 1j, torch.eye(2).to_sparse()]
)
def test_a_kind_of_numbers_that_is_not_read_is_no_danger(tmp_path, z):
    with pytest.raises(lclip.CheckpointError, match="kind that is not read.*save them as float32") as caught:
        read_pickle(saved({"z": z}, tmp_path / "a.pt", "zip"))
    assert "Do not use" not in str(caught.value)


def test_a_part_of_a_storage_in_an_old_file_is_that_part(tmp_path):
    """Before 1.6 a storage could be a view of another; torch.load still reads it, and nothing writes it."""
    whole = torch.arange(10.0)
    path = saved(whole, tmp_path / "a.pt", "before 1.6")
    content = path.read_bytes()
    tail = b"X" + struct.pack("<I", 3) + b"cpu" + content.split(b"cpu")[1][:2]  # a memo, maybe
    view = b"K\x0aX\x04\x00\x00\x00viewK\x03K\x04\x87t"  # 10 numbers; a view of 4 of them from 3 on
    start = content.index(tail) + len(tail)
    end = content.index(b"Q", start)
    content = content[:start] + view + content[end:]
    content = content.replace(b"K\x00K\x0a\x85", b"K\x00K\x04\x85")  # the tensor has those 4
    path.write_bytes(content)
    assert torch.equal(torch.load(path, weights_only=False), whole[3:7])
    assert torch.equal(read_pickle(path), whole[3:7])


def test_numbers_of_the_other_byte_order_are_turned(tmp_path):
    z = torch.randn(3, 5)
    torch.save({"z": z, "n": torch.arange(4, dtype=torch.uint8)}, tmp_path / "a.pt")
    other = {"little": b"big", "big": b"little"}[sys.byteorder]
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("byteorder"):
                content = other
            elif entry.filename.endswith("data/0"):
                content = np.frombuffer(content, np.uint32).byteswap().tobytes()
            new.writestr(entry.filename, content)
    found = read_pickle(tmp_path / "b.pt")
    assert torch.equal(found["z"], z) and found["n"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_odd_name_is_read(tmp_path, layout):
    path = saved(torch.ones(3), tmp_path / os.fsdecode(b"odd \xff.pt"), layout)
    assert torch.equal(read_pickle(path), torch.ones(3))


def test_what_is_older_than_old_is_said(tmp_path):
    with tarfile.open(tmp_path / "a.pt", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(lclip.CheckpointError, match=r"PyTorch before 0\.1\.10"):
        read_pickle(tmp_path / "a.pt")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.sampled_from(sorted(LAYOUTS)), place=st.floats(0, 1), value=st.binary(min_size=1, max_size=8),
    cut=st.booleans(),
)  # fmt: skip
def test_damage_anywhere_is_said_or_gives_no_more_than_there_is(layout, place, value, cut):
    file = io.BytesIO()
    torch.save(
        {"z": torch.arange(60.0).reshape(3, 4, 5), "n": [1, "two", (3.0, None)]}, file, **LAYOUTS[layout]
    )
    content = bytearray(file.getvalue())
    start = int(place * len(content))
    content[start : len(content) if cut else start + len(value)] = value
    try:
        found = read_pickle(Path("a.pt"), bytes(content))
    except lclip.CheckpointError as error:
        assert str(error).startswith("a.pt: ")
        return
    for held in found.values() if isinstance(found, dict) else ():
        if isinstance(held, torch.Tensor):
            held.sum()  # every number can be read
