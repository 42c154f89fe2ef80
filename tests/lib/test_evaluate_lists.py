"""Lists that people keep in whatever editor: prompts, captions and concepts, and workflows."""

import json
from types import SimpleNamespace

import pytest
import torch

from lclip.commands import main
from lclip.data.files import write_latents
from lclip.data.items import LatentItem
from lclip.evaluation.bias import read_concepts
from lclip.evaluation.classes import find_classes
from lclip.evaluation.comfyui import ComfyMaker, read_workflow
from lclip.evaluation.geneval import _compbench_layout
from lclip.evaluation.items import Inputs, of_classes, read_captions, with_captions
from lclip.evaluation.making import Batch
from lclip.evaluation.prompts import read_i2p, read_prompts
from lclip.mini.world import WEIGHTS

WORDS = "un café ☃"
API = {"1": {"class_type": "X", "inputs": {"a": "{prompt}", "b": WORDS}}}
ENTRIES = [{"tag": "x", "prompt": words} for words in (WORDS, "b")]
LISTS = {
    "p.txt": (f"{WORDS}\nb\n", lambda path: [p.text for p in read_prompts(path).prompts]),
    "p.jsonl": (
        "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in ENTRIES),
        lambda path: [p.text for p in read_prompts(path).prompts],
    ),
    "p.csv": (
        f"prompt,categories\n{WORDS},hate\nb,hate\n",
        lambda path: [p.text for p in read_i2p(path).prompts],
    ),
    "c.csv": (f"file,caption\n1.png,{WORDS}\n2.png,b\n", lambda path: [*read_captions(path).values()][::2]),
    "k.txt": (f"{WORDS} | b\n", lambda path: list(read_concepts(path).questions[0])),
    "w.json": (
        json.dumps(API, ensure_ascii=False),
        lambda path: [read_workflow(path)["1"]["inputs"]["b"], "b"],
    ),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", LISTS)
def test_lists_as_editors_write_them(tmp_path, name, encoding, ending):
    text, read = LISTS[name]
    path = tmp_path / name
    path.write_bytes(text.replace("\n", ending).encode(encoding))
    assert read(path) == [WORDS, "b"]


@pytest.mark.parametrize("name", LISTS)
def test_another_encoding_is_refused_with_the_name_of_the_file(tmp_path, name):
    text, read = LISTS[name]
    path = tmp_path / name
    path.write_bytes(text.replace("☃", "").encode("latin-1"))
    with pytest.raises(ValueError, match="save it as UTF-8") as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["p.csv", "c.csv"])
def test_a_quote_that_is_never_closed_is_refused_by_name(tmp_path, name):
    text, read = LISTS[name]
    path = tmp_path / name
    path.write_text(text.replace(WORDS, f'"{WORDS}') + "3.png,another\n" * 20_000, encoding="utf-8")
    with pytest.raises(ValueError, match="mark that is not closed") as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["p.csv", "c.csv"])
@pytest.mark.parametrize("sign", [";", "\t"])
def test_columns_that_are_parted_otherwise(tmp_path, name, sign):
    text, read = LISTS[name]
    path = tmp_path / name
    path.write_text(text.replace(",", sign), encoding="utf-8")
    with pytest.raises(ValueError, match="parted by commas"):
        read(path)


def test_signs_that_only_python_takes_for_line_ends(tmp_path):
    odd = "a\u2028b\x85c"
    table, lines, texts = (tmp_path / name for name in ("p.csv", "p.jsonl", "p.txt"))
    table.write_text(f"prompt,categories\n{odd},hate\n", encoding="utf-8")
    lines.write_text(json.dumps({"tag": "x", "prompt": odd}, ensure_ascii=False), encoding="utf-8")
    texts.write_text(f"{odd}\n", encoding="utf-8")
    for found in (read_i2p(table), read_prompts(lines), read_prompts(texts)):
        assert [prompt.text for prompt in found.prompts] == [odd]


def test_a_wrong_line_is_named_by_its_number_in_the_file(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('\n\n{"tag": "x", "prompt": "a"}\n\nnothing\n')
    with pytest.raises(ValueError, match="line 5: 'nothing'"):
        read_prompts(path)


SEEDS = {"9007199254740993": 9007199254740993, "7.0": 7, f"{2**64 - 1}": 2**64 - 1}
NO_SEEDS = ("", "-1", "²", "nan", "7.5", "1e400", f"{2**64}", "x")


@pytest.mark.parametrize(("text", "seed"), [*SEEDS.items(), *((text, None) for text in NO_SEEDS)])
def test_seeds_of_a_list(tmp_path, text, seed):
    path = tmp_path / "p.csv"
    path.write_text(f"prompt,categories,sd_seed\na,hate,{text}\n", encoding="utf-8")
    assert read_i2p(path).prompts[0].seed == seed


def test_rows_with_fewer_columns_and_with_more(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("categories,prompt\nhate\nhate,a,b,c\n", encoding="utf-8")
    assert [p.text for p in read_i2p(path).prompts] == ["a"]


def test_long_prompts_of_any_script_have_names_that_fit(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text(f"{'雪' * 200}\n{'☃ snow ' * 60}\n", encoding="utf-8")
    batch = Batch(read_prompts(path), ("plain",), 1, 0)
    place = _compbench_layout(SimpleNamespace(batch=batch, folder=tmp_path))  # type: ignore[arg-type]
    for prompt in batch.prompts.prompts:
        file = place("plain", prompt, 0)
        assert len(file.name.encode()) <= 200 and file.name.startswith(prompt.text[:20])


@pytest.mark.parametrize("inputs", [[], "text", 3, None])
def test_a_workflow_whose_node_has_no_inputs_by_name(tmp_path, inputs):
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"1": {"class_type": "X", "inputs": inputs}}))
    with pytest.raises(ValueError, match=r"expected API form: a class_type and inputs"):
        read_workflow(path)


@pytest.mark.parametrize(
    ("names", "said"),
    [(("a", "a"), "'a' is there already"), (("../a",), "no name of a folder"), (("..",), "no letters")],
)
def test_variants_are_folders_of_their_own(tmp_path, capsys, names, said):
    path, prompts = tmp_path / "w.json", tmp_path / "p.txt"
    path.write_text(json.dumps(API), encoding="utf-8")
    prompts.write_text("a red star\n")
    ask = ["evaluate", "geneval", "--model", WEIGHTS / "latent_clip.safetensors", prompts, "--quiet"]
    ask += ["--comfyui", "http://127.0.0.1:9", "--out", tmp_path / "out"]
    for name in names:
        ask += ["--workflow", f"{name}={path}"]
    assert main([str(word) for word in ask]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and said in told[0], told


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'"x"', b"\xff"])
def test_another_server_at_the_address_is_named(monkeypatch, answer):
    maker = ComfyMaker("http://127.0.0.1:9", {"plain": {"1": {"class_type": "X", "inputs": {}}}})
    monkeypatch.setattr(ComfyMaker, "_ask", lambda self, path, sent=None: answer)
    for asked in (maker.about, lambda: maker.make("plain", "a", 1)):
        with pytest.raises(ConnectionError, match="what answers at http://127.0.0.1:9 is no ComfyUI"):
            asked()


def test_a_caption_is_that_of_the_file_and_not_of_its_place_in_it(tmp_path):
    """0.latent, 1.latent, ... hold an item 0 each, and two folders may hold a 1.latent each."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    names = ["0.latent", "1.latent", "2.latent", "a/9.latent", "b/9.latent", "b/8.latent"]
    for name in names:
        write_latents(torch.ones(1, 4, 8, 8), tmp_path / name)
    table = tmp_path / "captions.csv"
    rows = [f"{name},of {name}" for name in names[:-1]]
    table.write_text("\n".join(["file,caption", *rows]))
    read = Inputs((tmp_path,)).items(lambda seen: None, lambda file, item: False)
    told = with_captions(read, read_captions(table))
    found = {item.file.removeprefix(f"{tmp_path}/"): item.caption for item in told}
    assert found == {**{name: f"of {name}" for name in names[:-1]}, "b/8.latent": None}


def test_a_key_in_a_tar_is_not_called_as_the_tar(tmp_path):
    """000.tar with the keys 0007 and 0008: neither is ImageNet's class 0, nor what a table calls 000."""
    classes = find_classes([tmp_path / "000.tar"], None, None).by_name
    items = [LatentItem("shards/000.tar", key, None, "goldfish") for key in ("0007", "00008", "shark/9")]
    texts = [item.caption for item in of_classes(items, {**classes, "shark": "a shark"})]
    assert texts == [classes["goldfish"], classes["goldfish"], "a shark"]
    several = LatentItem("owl/a.npz", "64x96", None)
    assert [item.caption for item in of_classes([several], {"owl": "an owl"})] == ["an owl"]
    told = with_captions(items, {"000": "of another", "0007": "its own"})
    assert [item.caption for item in told] == ["its own", None, None]
