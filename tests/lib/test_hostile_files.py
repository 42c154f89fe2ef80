"""Files that mean harm: each gets CheckpointError, none runs anything, none takes memory."""

import builtins
import importlib
import io
import operator
import os
import pickle
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from peak_memory import counted, forget_peak, peak_memory

import lclip
from lclip.checkpoints.pickles import MAX_PICKLE_BYTES, read_pickle

ALLOWED_GROWTH = 300 << 20  # bytes of peak memory that the whole collection may add


class Calls:
    """Pickles as a call of a function; unpickled without care, the function runs."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def calls(canary: Path) -> dict[str, object]:
    """Objects whose unpickling would make the canary file, or do other harm."""
    touch, text = f"touch {canary}", str(canary)
    evil = Calls(os.system, touch)
    return {
        "os.system": evil,
        "subprocess": Calls(subprocess.call, ["touch", text]),
        "popen": Calls(os.popen, touch),
        "eval": Calls(eval, f"open({text!r}, 'w').close()"),
        "exec": Calls(exec, f"open({text!r}, 'w').close()"),
        "open": Calls(open, text, "w"),
        "import": Calls(builtins.__import__, "antigravity"),
        "import_module": Calls(importlib.import_module, "antigravity"),
        "getattr": Calls(getattr, "", "join"),
        "mkdir": Calls(os.mkdir, text),
        "copy": Calls(shutil.copy, "/etc/hostname", text),
        "remove": Calls(shutil.rmtree, text),
        "attrgetter": Calls(operator.attrgetter, "system"),
        "pickle in a pickle": Calls(pickle.loads, pickle.dumps(evil, 2)),
        "torch.load": Calls(torch.load, text),
        "jit": Calls(torch.jit.load, text),
        "nested in a list": [1, [2, [3, evil]]],
        "nested in a key": {"state_dict": {"module.visual.proj": evil}},
        "nested in a call": Calls(OrderedDict, [("a", evil)]),
        "state of a call": Calls(OrderedDict, state={"a": evil}),
        "call of a call": Calls(OrderedDict, [Calls(tuple, [evil, evil])]),
        "set state": Calls(bytearray, 1, state={"__setstate__": evil}),
        "bytearray": Calls(bytearray, 1 << 40),
        "bytes": Calls(bytes, 1 << 40),
        "range list": Calls(list, range(1 << 40)),
        "numpy zeros": Calls(np.zeros, (1 << 40,)),
        "torch zeros": Calls(torch.zeros, 1 << 40),
        "numpy array": np.arange(4),
        "Counter": Calls(importlib.import_module("collections").Counter, "abc"),
        "call in a parameter": Calls(torch._utils._rebuild_parameter, evil, True, OrderedDict()),
        "hooks of a parameter": Calls(torch._utils._rebuild_parameter, torch.zeros(2), True, evil),
        "state of a parameter": Calls(
            torch._utils._rebuild_parameter_with_state, torch.zeros(2), True, OrderedDict(), {"a": evil}
        ),
        "parameter of a list": Calls(torch._utils._rebuild_parameter, Calls(list, [1]), True, OrderedDict()),
        "call in a tensor": Calls(torch._utils._rebuild_tensor_v3, evil, 0, (2,), (1,), False, OrderedDict()),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "sparse": torch.zeros(3, 3).to_sparse(),
        "module": torch.nn.Linear(2, 2),
        "dtype": torch.float32,
        "size": torch.Size([1 << 40]),
    }


def zipped(path: Path, instructions: bytes, extra: dict[str, bytes] | None = None, **how) -> Path:
    """A file laid out as torch.save lays it out, around any instructions."""
    entries = {"data.pkl": instructions, "byteorder": b"little", "version": b"3\n", "data/0": bytes(64)}
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in (entries | (extra or {})).items():
            archive.writestr(f"archive/{name}", content)
    return path


def tensor_of(size: tuple, stride: tuple, numel: int = 16, offset: int = 0, key: str = "0") -> bytes:
    """Instructions for a state dict of one tensor over a storage of 64 bytes."""

    def number(n):
        return pickle.dumps(n, 2)[2:-1]

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    def string(s):
        return b"X" + struct.pack("<I", len(s)) + s.encode()

    storage = (
        b"("
        + string("storage")
        + b"ctorch\nFloatStorage\n"
        + string(key)
        + string("cpu")
        + number(numel)
        + b"tQ"
    )
    arguments = b"(" + storage + number(offset) + numbers(size) + numbers(stride) + b"\x89" + b"}t"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
    return b"\x80\x02}" + string("visual.proj") + rebuild + b"s."


RAW_INSTRUCTIONS = {
    "protocol 4": pickle.dumps(Calls(os.getcwd), 4),
    "INST": b"(ios\ngetcwd\n.",
    "OBJ": b"(cos\ngetcwd\no.",
    "NEWOBJ": b"\x80\x02cbuiltins\nobject\n)\x81.",
    "EXT1": b"\x80\x02\x82\x01.",
    "PERSID": b"Pstorage\n.",
    "persistent id that is no storage": b"\x80\x02X\x06\x00\x00\x00moduleQ.",
    "empty stack": b"\x80\x02R.",
    "unknown memo": b"\x80\x02h\x07.",
    "unknown opcode": b"\x80\x02\xff.",
    "no stop": b"\x80\x02}",
    "nothing": b"",
    "long text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "deep": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "torch.storage": b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x01\x00\x85R.",
    "builtins eval by name": b"\x80\x02c__builtin__\neval\nX\x03\x00\x00\x001+1\x85R.",
    "tensor with zero strides": tensor_of((1 << 20, 1 << 20), (0, 0)),
    "tensor past its storage": tensor_of((1 << 30, 64), (64, 1)),
    "tensor before its storage": tensor_of((4, 4), (4, 1), offset=-64),
    "storage that claims a terabyte": tensor_of((4, 4), (4, 1), numel=1 << 40),
    "storage of no entry": tensor_of((4, 4), (4, 1), key="../../etc/passwd"),
    "void scalar of two gigabytes": (
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x0b\x00\x00\x00V2147483647\x85R\x85R."
    ),
    "object scalar": b"\x80\x02cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x01\0\0\0O\x85R]\x86R.",
    "parameter of no tensor": b"\x80\x02ctorch._utils\n_rebuild_parameter\n}\x89}\x87R.",
    "parameter of a name": (
        b"\x80\x02ctorch._utils\n_rebuild_parameter\nccollections\nOrderedDict\n\x89}\x87R."
    ),
    "type that is a function": tensor_of((4,), (1,))
    .replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v3")
    .replace(b"\x89}t", b"\x89}ccollections\nOrderedDict\nt"),
    "tensor of one byte each past its storage": tensor_of((65,), (1,))
    .replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v3")
    .replace(b"\x89}t", b"\x89}ctorch\nfloat8_e4m3fn\nt"),
    "codec": b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00abcX\x05\x00\x00\x00rot13\x86R.",
}


def refused(path: Path) -> str:
    with pytest.raises(lclip.CheckpointError) as caught:
        lclip.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", calls(Path("unused")))
def test_calls(name, tmp_path):
    canary = tmp_path / "canary"
    content = calls(canary)[name]
    torch.save(content, tmp_path / "whole.pt")
    torch.save({"state_dict": content}, tmp_path / "state.pt")
    torch.save({"state_dict": {}, "optimizer": content}, tmp_path / "optimizer.pt")
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(content, tmp_path / "new.pt", pickle_protocol=4)
    for file in ("whole.pt", "state.pt", "optimizer.pt", "old.pt", "new.pt"):
        assert ": refused: " in refused(tmp_path / file)
        assert not canary.exists()


def test_the_canary_would_have_been_made(tmp_path):
    """The control: without care, the same objects do run."""
    canary = tmp_path / "canary"
    for name in ("os.system", "subprocess", "eval", "pickle in a pickle", "nested in a call"):
        pickle.loads(pickle.dumps(calls(canary)[name], 2))  # a literal of this file
        assert canary.exists(), name
        canary.unlink()


@pytest.mark.parametrize("name", RAW_INSTRUCTIONS)
def test_instructions(name, tmp_path):
    refused(zipped(tmp_path / "raw.pt", RAW_INSTRUCTIONS[name]))


def test_a_call_is_named_and_said_not_to_have_run(tmp_path):
    torch.save({"state_dict": Calls(os.system, "true")}, tmp_path / "a.pt")
    text = refused(tmp_path / "a.pt")
    assert "posix.system" in text or "nt.system" in text
    assert "Nothing was run" in text


def test_odd_archives(tmp_path):
    good = tensor_of((4, 4), (4, 1))
    refused(zipped(tmp_path / "compressed.pt", good, compression=zipfile.ZIP_DEFLATED))
    refused(zipped(tmp_path / "bomb.pt", bytes(64 << 20), compression=zipfile.ZIP_DEFLATED))
    refused(zipped(tmp_path / "large.pt", bytes(MAX_PICKLE_BYTES + 1)))
    refused(zipped(tmp_path / "two.pt", good, {"inner/data.pkl": good}))
    with zipfile.ZipFile(tmp_path / "none.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "none.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    refused(tmp_path / "script.pt")
    with tarfile.open(tmp_path / "tar.pt", "w") as archive:
        member = tarfile.TarInfo("pickle")
        member.size = len(good)
        archive.addfile(member, io.BytesIO(good))
    refused(tmp_path / "tar.pt")


@pytest.mark.parametrize(
    "content",
    [None, 7, "text", [1, 2], torch.zeros(3), {1: torch.zeros(2)}, {"state_dict": [torch.zeros(2)]}],
)
def test_wrong_types(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    refused(tmp_path / "a.pt")


@counted
def test_memory(tmp_path):
    """The peak is forgotten first, so this sees an allocation that any of the files above made."""
    forget_peak()
    before = peak_memory()
    for name, instructions in RAW_INSTRUCTIONS.items():
        refused(zipped(tmp_path / f"{abs(hash(name))}.pt", instructions))
    for name, content in calls(tmp_path / "canary").items():
        torch.save(content, tmp_path / f"{abs(hash(name))}.pt")
        refused(tmp_path / f"{abs(hash(name))}.pt")
    assert peak_memory() - before < ALLOWED_GROWTH


def test_what_others_allowed_is_neither_used_nor_lost(tmp_path):
    """Another pack may have allowed a class for its own files; ours do not get it, and it keeps it."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([Calls])
    try:
        torch.save({"state_dict": {}, "optimizer": Calls(Calls, 1)}, tmp_path / "a.pt")
        assert ": refused: " in refused(tmp_path / "a.pt")
        assert set(torch.serialization.get_safe_globals()) == {*before, Calls}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_reading_in_threads_never_touches_what_others_allow(tmp_path):
    """Another pack allows its own classes while several files are read, and reads its own files meanwhile."""
    before = torch.serialization.get_safe_globals()
    kinds = [type(f"Own{number}", (), {"__module__": __name__}) for number in range(200)]
    torch.save({"visual.proj": torch.ones(3), "scalar": np.float64(1)}, tmp_path / "a.pt")

    def read(_: int) -> None:
        assert torch.equal(read_pickle(tmp_path / "a.pt")["visual.proj"], torch.ones(3))

    try:
        with ThreadPoolExecutor(8) as threads:
            readings = threads.map(read, range(400))
            for kind in kinds:
                torch.serialization.add_safe_globals([kind])
            list(readings)
        assert set(torch.serialization.get_safe_globals()) == {*before, *kinds}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
