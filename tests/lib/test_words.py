"""Words on pictures and in reports: the reader's language where there is a font, else English."""

from __future__ import annotations

import ast
import json
import math
import re
import string
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_charts import ROOT, pack  # noqa: F401  # fixture

import lclip
from lclip.choosing.balance import balance_of
from lclip.exploring.blending import SphericalCorners
from lclip.exploring.plan import Plan
from lclip.latents import advice
from lclip.mini.world import load_latent_clip
from lclip.rewards.taste import Taste
from lclip.rewards.taste import _doubts as taste_doubts
from lclip.safety.unreadable import why_unreadable
from lclip.scoring import label_doubts, too_many
from lclip.training.towers import MODELS

LANGUAGES = [path.parent.name for path in sorted(ROOT.glob("locales/*/sheets.json"))]
CHINESE = re.compile("[\u4e00-\u9fff]")
each_language = pytest.mark.parametrize("language", LANGUAGES)


def written(language: str) -> dict[str, str]:
    return json.loads((ROOT / "locales" / language / "sheets.json").read_text(encoding="utf-8"))


def sources() -> list[ast.Module]:
    return [
        ast.parse(path.read_text(encoding="utf-8"))
        for folder in ("nodes", "lclip")
        for path in ROOT.glob(f"{folder}/**/*.py")
        if path.parent.name not in ("mini", "commands")  # they speak to a terminal
    ]


def literals() -> set[str]:
    """Every text that is handed to `said` or `drawn` as it stands, or to the library's `say`."""
    calls = [node for tree in sources() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [
        call.args[0] for call in calls
        if call.args and getattr(call.func, "id", getattr(call.func, "attr", "")) in ("said", "drawn", "say")
    ]  # fmt: skip
    return {each.value for each in named if isinstance(each, ast.Constant)}


def names_in(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.fixture
def words(pack):  # noqa: F811
    module = pack("words")
    yield module
    module.speak(lambda: module.ENGLISH)


def test_chinese_is_there():
    assert "zh" in LANGUAGES


@each_language
def test_a_language_has_every_text_and_no_other(language):
    texts = {node.value for tree in sources() for node in ast.walk(tree)
             if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip
    assert len(literals()) > 40
    assert not literals() - set(written(language)), "not translated"
    assert not set(written(language)) - texts, "no node says that"


@each_language
def test_a_translation_names_the_same_values(language):
    for english, own in written(language).items():
        assert names_in(own) == names_in(english), english


# ---- what the library says, whole sentences with their values in them

# Where cautions are worded: file, and the functions of it that hold nothing else.
CAUTIONS = {
    "lclip/latents/scale.py": "_empty _grey _noise _small _large named_items",
    "lclip/latents/checks.py": "broken_doubt _broken",
    "lclip/latents/siblings.py": "_text",
    "lclip/model/text_doubts.py": "unknown_words_doubts cut_doubts",
    "lclip/safety/unreadable.py": "why_unreadable _why",
    "lclip/safety/calibration.py": "_warnings _left_out",
    "lclip/rewards/taste.py": "_notes _doubts",
    "lclip/reno/types.py": "notes",
    "lclip/choosing/types.py": "doubts",
    "lclip/choosing/balance.py": "_notes _doubts",
    "lclip/choosing/slide_types.py": "notes _wrong_ways",
    "lclip/exploring/explore.py": "notes",
    "lclip/scoring.py": "too_many label_doubts",
    "nodes/draw/races.py": "race_cautions",
    "nodes/select.py": "doubts",
    "nodes/explore.py": "_doubts",
    "nodes/shares.py": "_only_first _confusions",
}


def sentences(language: str) -> dict[str, str]:
    return json.loads((ROOT / "locales" / language / "cautions.json").read_text(encoding="utf-8"))


def skeleton(node: ast.expr) -> str:
    """The words of a text in the source, with {} where a value goes."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(skeleton(part) if isinstance(part, ast.Constant) else "{}" for part in parts)


def worded(tree: ast.AST) -> set[str]:
    """Every text below a node, without docstrings and without the parts of larger texts."""
    inner, found = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node) if part is not node}
        if isinstance(node, ast.Expr):
            inner.add(id(node.value))
    for node in ast.walk(tree):
        if id(node) not in inner and isinstance(node, (ast.JoinedStr, ast.Constant)):
            found.add(skeleton(node))
    return found


def bare(template: str) -> str:
    return re.sub(r"\{\w+\}", "{}", template)


@each_language
def test_every_caution_is_told_and_none_that_nobody_says(language):
    """By the source: each text of the functions that word cautions is part of a sentence, and back."""
    texts = {text for tree in sources() for text in worded(tree)}
    known = {bare(template) for template in sentences(language)}
    for template in known:
        pieces = [piece for piece in re.split(r"\{\}|\. | \(spread", template) if len(piece.split()) > 2]
        assert all(any(piece.strip(" ;.,():") in text for text in texts) for piece in pieces), template
    for file, functions in CAUTIONS.items():
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        chosen = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in functions.split()]
        assert {node.name for node in chosen} == set(functions.split()), file
        for text in {text for node in chosen for text in worded(node) if len(text.split()) > 2}:
            pieces = [piece.strip(" .:;,()") for piece in text.split("{}") if len(piece.split()) > 1]
            assert any(all(piece in template for piece in pieces) for template in known), text


@each_language
def test_a_sentence_names_the_same_values(language):
    for english, own in sentences(language).items():
        assert names_in(own) == names_in(english) and CHINESE.search(own), english


def cautions_of_all_kinds() -> list[str]:
    """As the library words them, by asking it."""
    config = MODELS["b-8"]
    draws = torch.Generator().manual_seed(0)
    noise = 50 * torch.randn(1, 4, 64, 64, generator=draws)
    picture = 6.5 * F.interpolate(torch.randn(1, 4, 8, 8, generator=draws), 64, mode="bicubic")
    odd = [0 * noise, noise, picture / 60, picture * 20]
    found = [lclip.scale_doubt(z, config) for z in odd] + why_unreadable(torch.cat(odd), config)
    advice.speak(advice.IN_A_GRAPH)
    found += [lclip.scale_doubt(picture / 60, config)]
    advice.speak(advice.IN_PYTHON)
    broken = torch.cat([picture, picture * math.nan])
    found += lclip.latent_doubts(broken, config)
    model = load_latent_clip()
    found += lclip.text_doubts(model, ["a red zebra", "a unicorn", " ".join(["star"] * 90)])
    found += [too_many(9, 4), *label_doubts(model, ["star", "Star", "ring"])]
    found += taste_doubts(Taste(torch.zeros(2), 0.0, size_rule="tiles"), model)
    found += balance_of(torch.tensor([[0.9, 0.1]] * 3), ["a", "b"], k=9).notes
    return [text for text in found if text]


def test_cautions_are_told_in_the_readers_language(words):
    found = cautions_of_all_kinds()
    assert len(found) > 10 and [words.told(text) for text in found] == found
    words.speak(lambda: "zh")
    for text in found:
        own = words.told(text)
        values = re.findall(r"[0-9][0-9.e+-]*", text)
        assert CHINESE.search(own) and all(value.strip(".") in own for value in values), (text, own)
        assert not re.search(r"[a-z]+ [a-z]+ [a-z]+", own.split("'")[0]), own
    assert words.said("Caution: {text}", text="item 3: the latents are all zero") == (
        "注意：第 3 项：latent 全是 0"
    )
    assert words.told("anything else: 3") == "anything else: 3"


def test_chinese_is_chinese():
    for english, own in written("zh").items():
        rest = re.sub(r"\{\w+\}", "", english)
        assert CHINESE.search(own) or not re.search("[a-z]{2}", rest), own


def test_a_report_is_in_the_readers_language_and_takes_the_values_as_they_are(words):
    assert words.said("bright: {text}", text="a {b} c") == "bright: a {b} c"
    words.speak(lambda: "zh")
    assert words.said("bright: {text}", text="a {b} c") == "亮处：a {b} c"
    words.speak(lambda: "xx")
    assert words.said("bright: {text}", text="x") == "bright: x"


def test_what_a_slider_tells_while_it_runs_is_in_the_readers_language(words):
    """By the function alone: its module asks for the host."""
    source = (ROOT / "nodes" / "host" / "slider.py").read_text(encoding="utf-8")
    (own,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "step_text"
    )
    space = {"draw": SimpleNamespace(words=words), "lclip": lclip}
    exec(compile(ast.Module([own], []), "slider", "exec"), space)  # noqa: S102  # our own source
    settings = lclip.SlideSettings(positions=3)
    said = [space["step_text"](index, settings) for index in (-1, 2)]
    assert said == ["the start", "position 3 of 3 (+0.40)"]
    words.speak(lambda: "zh")
    assert [space["step_text"](index, settings) for index in (-1, 2)] == ["起点", "第 3/3 个位置（+0.40）"]


def reports(pack, say) -> dict[str, str]:  # noqa: F811
    """Every report of choosing, racing, sliding and exploring, each with something odd in it."""
    same, race = torch.ones(1, 3), pack("races")
    check = lclip.choosing.types.RaceCheck(2, 2, same, torch.tensor([[True, False, False]]))
    latents = torch.zeros(1, 4, 2, 2)
    raced = lclip.RaceResult(latents, latents, same[0, :1], [0], [5], [check], 6, 6)
    start = torch.zeros(2)
    slid = lclip.SlideResult(
        latents, None, torch.zeros(3, 2), torch.tensor([[-0.4] * 2, [0.0] * 2, [0.4] * 2]), start, latents,
        torch.ones(3, 2),
    )  # fmt: skip
    plan = Plan.of([SphericalCorners("noise", torch.randn(2, 4, 2, 2))], 2)
    mapped = lclip.ExploredMap(plan, latents, ("ring",), torch.ones(1, 1, 2))
    maps = pack("maps").map_report(mapped, 0), *pack("words").cautions(mapped.notes)
    chances = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    rewards = torch.tensor([1.0, math.nan, 1.0])
    return {
        "balance": balance_of(chances, ["a", "b"], None, rewards, k=9).report(say),
        "balance of none": balance_of(chances[2:].expand(2, 2), ["a", "b"]).report(say),
        "balance out of reach": balance_of(chances, ["a", "b"]).report(say),
        "race": race.race_report(raced),
        "slider": pack("slides").slide_report(slid),
        "map": "\n".join(maps),
    }


def test_every_line_of_every_report_is_in_the_readers_language(pack, words):  # noqa: F811
    """Also those that say what did not come out as asked."""
    english = reports(pack, words.said)
    assert all("Caution: " in text and not CHINESE.search(text) for text in english.values()), english
    words.speak(lambda: "zh")
    for name, text in reports(pack, words.said).items():
        assert len(text.splitlines()) == len(english[name].splitlines())
        for line in text.splitlines():
            three_words = re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", line)
            assert CHINESE.search(line) and not three_words, (name, line)


def test_a_picture_without_a_font_for_it_stays_english(pack, words, monkeypatch):  # noqa: F811
    lettering = pack("lettering")
    words.speak(lambda: "zh")
    for fonts in (("DejaVuSans.ttf",), ()):
        monkeypatch.setattr(lettering, "FONT_FILES", fonts)
        lettering._lettered.cache_clear()
        assert not lettering.can_letter("得分")
        assert words.drawn("score {score}", score="0.1") == "score 0.1"
        assert words.said("score {score}", score="0.1") == "得分 0.1"
    lettering._lettered.cache_clear()


def test_with_a_font_the_sheet_is_drawn_in_chinese(pack, words):  # noqa: F811
    """By the picture: it is what Pillow draws of the Chinese words, and nothing but Chinese differs."""
    lettering, sheets = pack("lettering"), pack("sheets")
    if not all(map(lettering.can_letter, written("zh").values())):
        pytest.skip("no font here has Chinese letters")
    previews, scores = torch.full((2, 8, 8, 3), 0.5), torch.tensor([0.1, 0.2])
    english = sheets.score_sheet(previews, scores)
    words.speak(lambda: "zh")
    chinese = sheets.score_sheet(previews, scores)
    assert chinese.shape == english.shape and (chinese != english).any()
    differ = (chinese != english).any(-1)[0].any(1).nonzero().flatten()
    assert int(differ.max()) < 44, "more than the heading is different"


def test_the_map_in_the_browser_gets_every_text_that_it_says(pack, words):  # noqa: F811
    script = (ROOT / "lclip" / "exploring" / "map.js").read_text(encoding="utf-8")
    asked = set(re.findall(r'this\.say\(\s*"([^"]+)"', script))
    assert len(re.findall(r"this\.say\(", script)) >= len(asked) > 10
    words.speak(lambda: "zh")
    given = pack("maps").map_words()
    assert set(given) == asked
    assert all(own == written("zh")[english] for english, own in given.items())
    hint = (ROOT / "web" / "js" / "explore.js").read_text(encoding="utf-8")
    assert all(re.search(rf"^  {language}: ", hint, re.M) for language in ("en", *LANGUAGES))


def test_draw_knows_the_languages_that_the_host_half_takes():
    text = (ROOT / "nodes" / "host" / "locale.py").read_text(encoding="utf-8")
    script = (ROOT / "web" / "js" / "locale.js").read_text(encoding="utf-8")
    taken = re.search(r"LANGUAGES = \((.*)\)", text), re.search(r"SPOKEN = \[(.*)\]", script)
    for found in taken:
        assert found and set(re.findall(r'"(\w+)"', found[1])) == {"en", *LANGUAGES}
