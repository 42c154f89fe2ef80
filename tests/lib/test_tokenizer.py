"""Token ids, against the reference's for odd prompts; nothing is cut in silence."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lclip
from lclip.model import bpe, text_cleaning
from lclip.model.bpe import BPETokenizer, find_vocabulary
from lclip.model.tokenizers import tokenizer_for

ROOT = Path(__file__).resolve().parents[2]


def vocabulary() -> Path | None:
    """CLIP's list of merges: a ComfyUI checkout's, or an installed package's."""
    if "COMFYUI_PATH" in os.environ:
        checkout = os.environ["COMFYUI_PATH"].split(os.pathsep)[0]
        return Path(checkout) / "comfy" / "sd1_tokenizer" / "merges.txt"
    try:
        return find_vocabulary()
    except FileNotFoundError:
        return None


needs_vocabulary = pytest.mark.skipif(
    vocabulary() is None, reason="no CLIP vocabulary: install the extra 'tokenizer'"
)


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer(77, vocabulary())


@pytest.fixture(params=["ftfy", "own"])
def repair(request, monkeypatch):
    """The two ways to repair text: ftfy where it is installed, and ours where it is not."""
    if request.param == "ftfy":
        pytest.importorskip("ftfy")
    else:
        monkeypatch.setitem(sys.modules, "ftfy", None)  # as if it were not installed
        assert text_cleaning._repair() is text_cleaning.repair_text


@needs_vocabulary
def test_ids_are_the_references(tokenizer, golden, repair):
    prompts = json.loads((golden / "clip_bpe.json").read_text())
    assert len(prompts) >= 60
    for prompt in prompts:
        ids = tokenizer.encode([prompt["text"]])[0]
        expected = torch.zeros(77, dtype=torch.long)
        expected[: len(prompt["ids"])] = torch.tensor(prompt["ids"])
        assert torch.equal(ids, expected), ascii(prompt["text"])
        assert tokenizer.truncated([prompt["text"]]) == [prompt["tokens"] > 77]


@needs_vocabulary
def test_a_weight_is_read_as_typed(tokenizer):
    """(red:1.2) is seven tokens, none of them special to us."""
    typed = tokenizer.encode(["(red:1.2)"])[0]
    assert int((typed > 0).sum()) == 2 + 7
    assert not torch.equal(typed, tokenizer.encode(["red"])[0])


@needs_vocabulary
def test_a_cut_prompt_is_reported(tokenizer, caplog):
    long = "tree " * 100
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        ids = tokenizer.encode(["short", long])
    assert ids.shape == (2, 77) and ids[1, -1] == tokenizer.end and bool((ids[1] > 0).all())
    assert len(caplog.records) == 1 and "102 tokens" in caplog.text and "'tree" in caplog.text
    assert tokenizer.truncated(["short", long]) == [False, True]


@needs_vocabulary
@given(st.text(max_size=40))
def test_any_text_has_ids_that_end_with_the_end(text):
    tokenizer = BPETokenizer(77, vocabulary())
    ids = tokenizer.encode([text])[0]
    assert ids[0] == tokenizer.start
    assert int(ids.max()) == tokenizer.end
    assert torch.equal(ids, tokenizer.encode([text])[0])


def test_the_vocabulary_is_found_in_a_host_without_importing_it(tmp_path):
    """A package `comfy` that raises when imported, and holds the list of merges where ComfyUI has it."""
    folder = tmp_path / "comfy" / "sd1_tokenizer"
    folder.mkdir(parents=True)
    (tmp_path / "comfy" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    script = "import lclip.model.bpe; print(lclip.model.bpe.find_vocabulary())"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(folder / "merges.txt"), done.stderr


def test_no_vocabulary(monkeypatch):
    monkeypatch.setattr(bpe, "PLACES", (("no_such_package_at_all", "merges.txt"),))
    with pytest.raises(FileNotFoundError, match=r"ComfyUI.*latent-clip\[tokenizer\]"):
        find_vocabulary()


def test_a_short_vocabulary_is_refused(tmp_path):
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(ValueError, match="1 merges; expected the 48894"):
        BPETokenizer(77, tmp_path / "merges.txt")


def test_importing_the_library_is_light():
    heavy = ["transformers", "tokenizers", "scipy", "PIL", "ftfy", "comfy", "nodes"]
    script = f"import sys, lclip; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        ("cafÃ©", "café"),
        ("â€œhiâ€\x9d", '"hi"'),
        ("&amp;amp; &EACUTE; &bogus;", "& É &bogus;"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("ＡＢ\u3000ｶﾞ", "AB ガ"),
        ("oﬃce ŉ", "office 'n"),
        ("\x1b[31mred\x1b[0m\x07\ufeff", "red"),
        ("e\u0301 \ud83d\ude00 \ud800", "é 😀 \ufffd"),
        ("Ã la carte, 5°C, ÄÖÜ", "Ã la carte, 5°C, ÄÖÜ"),
    ],
)
def test_own_repairs(raw, repaired):
    assert text_cleaning.repair_text(raw) == repaired


@given(st.text(max_size=60))
def test_repairing_twice_changes_nothing(text):
    once = text_cleaning.repair_text(text)
    assert text_cleaning.repair_text(once) == once


def test_word_tokenizer(caplog):
    words = lclip.WordTokenizer(["red", "circle", "2"], 5)
    assert words.vocab_size == 7
    assert words.encode(["Red, CIRCLE!", "unknown 2", ""]).tolist() == [
        [2, 3, 4, 6, 0],
        [2, 1, 5, 6, 0],
        [2, 6, 0, 0, 0],
    ]
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        assert words.encode(["red red red red"]).tolist() == [[2, 3, 3, 3, 6]]
    assert "6 tokens" in caplog.text
    assert words.truncated(["red red red red", "red"]) == [True, False]
    with pytest.raises(ValueError, match="text 0 is a NoneType"):
        words.encode([None])  # pyright: ignore[reportArgumentType]


def test_the_tokenizer_must_fit_the_model(tiny_config):
    with pytest.raises(ValueError, match="14 tokens, its tokenizer 5"):
        tokenizer_for(tiny_config, {"kind": "words", "vocabulary": ["red"]})
    with pytest.raises(ValueError, match="needs its vocabulary"):
        tokenizer_for(tiny_config)
