"""What a model cannot read of a text is said in words, wherever a text is asked about."""

import logging

import pytest
import safety_worlds as worlds
import torch
from command_world import pictures, read_jsonl, run, save_model, write_files, write_shard
from hypothesis import given
from hypothesis import strategies as st

import lclip
from lclip.mini import load_world
from lclip.model.bpe import BPETokenizer
from lclip.model.tokenizer import WordTokenizer

KNOWN = "a photo of a person"
LONG = "blood " * 7  # 9 tokens for a context of 8


@pytest.fixture(scope="module")
def clip():
    return worlds.tiny_clip()


def test_a_text_that_is_read_as_a_whole_raises_no_doubt(clip):
    assert lclip.text_doubts(clip, KNOWN) == []
    assert lclip.text_doubts(clip, [KNOWN, "Blood, an ARM!", "the statue"]) == []
    assert lclip.text_doubts(clip, []) == []


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ("zebra", ["zebra"]),
        (["a zebra", "a zebra unicorn", "blood"], ["zebra", "unicorn"]),
        ("Zebra ZEBRA zebra", ["zebra"]),
        ("blood 7", ["7"]),
    ],
)
def test_unknown_words_are_named_each_once(clip, texts, words):
    (doubt,) = lclip.text_doubts(clip, texts)
    assert f"not know the word{'s' if len(words) > 1 else ''} {', '.join(words)}," in doubt
    assert "blood" not in doubt


def test_every_text_whose_end_is_cut_is_named(clip):
    told = lclip.text_doubts(clip, [LONG, KNOWN, LONG + "arm"])
    assert len(told) == 2 and all("8 tokens" in doubt for doubt in told)
    assert "blood" in told[0] and told[1].rstrip("'").endswith("arm")


def test_both_are_told_of_one_text(clip):
    assert len(lclip.text_doubts(clip, LONG + "zebra")) == 2


def test_the_mini_world_tells_of_what_it_cannot_draw_either():
    world = load_world()
    for reader in (world, world.latent_clip, world.pixel_clip):
        assert "zebra, unicorn" in lclip.text_doubts(reader, "zebra unicorn")[0]
        assert lclip.text_doubts(reader, "a red star left of a blue ring on a white ground") == []


@given(st.lists(st.text(max_size=30), max_size=4))
def test_words_are_unknown_exactly_where_they_become_the_unknown_token(texts):
    tokenizer = WordTokenizer(worlds.WORDS, 40)
    for text, words in zip(texts, tokenizer.unknown_words(texts), strict=True):
        unknown = int((tokenizer.encode([text]) == tokenizer.UNKNOWN).sum())
        assert bool(words) <= bool(unknown)
        for word in words:
            assert tokenizer.encode([word])[0, 1] == tokenizer.UNKNOWN
    assert len(tokenizer.unknown_words(texts)) == len(texts)


def test_an_open_vocabulary_knows_every_word_but_cuts_too():
    tokenizer = BPETokenizer()
    assert tokenizer.unknown_words(["zebra unicorn", "qzxv 🦄"]) == [[], []]

    class Reader:
        pass

    reader = Reader()
    reader.tokenizer = tokenizer
    assert lclip.text_doubts(reader, "qzxv 🦄 zebra") == []
    (doubt,) = lclip.text_doubts(reader, "a very long prompt, " * 20 + "and its end")
    assert "77 tokens" in doubt and "and its end" in doubt and len(doubt) < 200


ASKED = {
    "similarity": lambda clip, z: lclip.similarity(clip, z, "a zebra"),
    "classify": lambda clip, z: lclip.classify(clip, z, ["zebra", "arm"], ["a photo of a {}"]),
    "heatmap": lambda clip, z: lclip.heatmap(clip, z, "a zebra"),
    "heatmap against": lambda clip, z: lclip.heatmap(clip, z, "blood", against=["zebra"]),
    "text reward": lambda clip, z: lclip.TextReward(clip, ["blood", "a zebra"]),
}


@pytest.mark.parametrize("asked", ASKED)
def test_the_library_warns_of_unknown_words(clip, asked, caplog):
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        ASKED[asked](clip, worlds.pictures(2))
    assert "not know the word zebra" in caplog.text
    caplog.clear()
    with torch.no_grad():
        lclip.similarity(clip, worlds.pictures(2), KNOWN)
    assert not caplog.records


def test_tables_and_the_terminal_tell_of_a_text_that_is_not_read(tmp_path, capsys):
    tiny, folder = save_model(tmp_path), write_files(tmp_path / "in", pictures(3))
    out = tmp_path / "s.jsonl"
    assert run("score", "--model", tiny, "--text", "a zebra", "--text", LONG, folder, "--out", out) == 0
    said = capsys.readouterr().err
    assert "score: note: " in said and "zebra" in said and "8 tokens" in said
    for row in read_jsonl(out):
        assert "zebra" in row["note"] and "8 tokens" in row["note"] and row["a zebra"] is not None


def test_labels_and_templates_are_told_of_too(tmp_path, capsys):
    tiny, folder = save_model(tmp_path), write_files(tmp_path / "in", pictures(2))
    labels = ("--label", "zebra", "--label", "blood", "--template", "a sketch of {}")
    assert run("classify", "--model", tiny, *labels, folder, "--out", tmp_path / "c.jsonl") == 0
    assert "sketch, zebra" in capsys.readouterr().err
    assert all("sketch, zebra" in row["note"] for row in read_jsonl(tmp_path / "c.jsonl"))


def test_select_tells_of_them(tmp_path, capsys):
    tiny, folder = save_model(tmp_path), write_files(tmp_path / "in", pictures(2))
    assert run("select", "--model", tiny, "--text", "a zebra", "-k", 1, folder) == 0
    assert "select: note: " in capsys.readouterr().err


def test_each_row_tells_of_its_own_caption(tmp_path):
    tiny, out = save_model(tmp_path), tmp_path / "s.jsonl"
    shard = write_shard(tmp_path / "a.tar", pictures(3), caption="a {} unicorn")
    other = write_shard(tmp_path / "b.tar", pictures(3, seed=2), caption="a {}")
    assert run("score", "--model", tiny, "--captions", shard, other, "--out", out) == 0
    rows = read_jsonl(out)
    assert ["unicorn" in (row["note"] or "") for row in rows] == [True] * 3 + [False] * 3


def test_reno_on_the_command_line_tells_of_them(tmp_path, capsys):
    few = ("--pictures", 1, "--iterations", 1, "--quiet", "--out", tmp_path / "out")
    assert run("reno", "--prompt", "zebra unicorn", *few) == 0
    assert "reno: note: " in (said := capsys.readouterr().err) and "zebra, unicorn" in said
    assert run("reno", "--prompt", "a red star", *few) == 0
    assert "note" not in capsys.readouterr().err
