"""Texts as editors write them: read with any mark, or refused by name."""

import codecs

import pytest
from command_world import npy, pictures, read_csv, run, save_model, write_files, write_tar

from lclip.data.items import MAX_CAPTION_BYTES, caption
from lclip.data.samples import Sample, Unusable
from lclip.data.texts import decoded, read_text
from lclip.training import samples
from lclip.training.zero_shot import read_classes

UTF16 = (
    codecs.BOM_UTF16_LE + "gr\u00fcn".encode("utf-16-le"),
    codecs.BOM_UTF16_BE + "gr\u00fcn".encode("utf-16-be"),
)


@pytest.mark.parametrize("content", ["gr\u00fcn".encode(), codecs.BOM_UTF8 + "gr\u00fcn".encode(), *UTF16])
def test_a_text_is_the_same_in_every_encoding_that_says_what_it_is(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert decoded(content) == read_text(tmp_path / "a.txt") == caption(content) == "gr\u00fcn"
    sample = Sample("a", {"txt": content})
    assert samples.read_text(sample) == "gr\u00fcn"
    assert samples.read_label(Sample("a", {"cls": content}), ("rot", "gr\u00fcn")) == 1


@pytest.mark.parametrize("content", ["gr\u00fcn".encode("latin-1"), UTF16[0] + b"\x00", b"\xff\xfe\x00\xd8"])
def test_another_encoding_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.txt: .*save it as UTF-8"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(Unusable, match="unreadable text: .*save it as UTF-8"):
        samples.read_text(Sample("a", {"txt": content}))
    with pytest.raises(Unusable, match="unreadable label: .*save it as UTF-8"):
        samples.read_label(Sample("a", {"cls": content}), ("rot", "gr\u00fcn"))


def test_a_caption_that_is_cut_within_a_sign_is_read_up_to_there():
    assert caption(b"x" + "\u00fc".encode() * MAX_CAPTION_BYTES) == "x" + "\u00fc" * (
        MAX_CAPTION_BYTES // 2 - 1
    )


@pytest.mark.parametrize("packed", [False, True])
def test_a_caption_in_no_known_encoding_is_an_item_that_cannot_be_read(tmp_path, packed, capsys):
    tiny, z = save_model(tmp_path), npy(pictures(1)[0])
    texts = {"a": b"blood", "b": "bl\u00f6d".encode("latin-1"), "c": codecs.BOM_UTF8 + b"blood"}
    members = [pair for key, text in texts.items() for pair in ((f"{key}.npy", z), (f"{key}.txt", text))]
    inputs = tmp_path / "in"
    if packed:
        inputs = write_tar(tmp_path / "in.tar", members)
    else:
        inputs.mkdir()
        for name, content in members:
            (inputs / name).write_bytes(content)
    assert run("score", "--model", tiny, "--captions", inputs) == 1
    rows = read_csv(capsys.readouterr().out)
    assert rows[0]["caption"] == rows[2]["caption"] != ""
    assert "(txt) cannot be read: no text in UTF-8: byte 2 is 0xf6; save it as UTF-8" in rows[1]["error"]
    assert run("score", "--model", tiny, "--text", "blood", inputs) == 0  # nobody asks for captions


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_that_an_editor_marked_are_read(tmp_path, encoding, capsys):
    from lclip import SafetyPolicy

    inputs = write_files(tmp_path / "in", pictures(1))
    (tmp_path / "c.txt").write_text("skull: a skull // a star\n", encoding=encoding)
    run("safety", "--mini", "--concepts", tmp_path / "c.txt", inputs)
    assert read_csv(capsys.readouterr().out)[0]["concept"] == "skull"
    (tmp_path / "p.json").write_text(SafetyPolicy.preset("mini").to_json(), encoding=encoding)
    assert run("safety", "--mini", "--policy", tmp_path / "p.json", inputs) in (0, 1)
    assert run("info", tmp_path / "p.json") == 0
    (tmp_path / "classes.txt").write_text("star\tred star\nring\n", encoding=encoding)
    assert read_classes(tmp_path / "classes.txt") == (("star", "ring"), ("red star", "ring"))


def test_a_file_of_another_encoding_is_named(tmp_path, capsys):
    inputs = write_files(tmp_path / "in", pictures(1))
    (tmp_path / "c.txt").write_bytes("sk\u00fcll: a // b".encode("latin-1"))
    for option in ("--concepts", "--policy"):
        assert run("safety", "--mini", option, tmp_path / "c.txt", inputs) == 2
        assert "c.txt: no text in UTF-8: byte 2 is 0xfc; save it as UTF-8" in capsys.readouterr().err
