"""Shares of concepts, against closed forms and drawn truth."""

import csv
import io
import json
import math

import pytest
import torch
from kinds import inputs

import lclip
from lclip.choosing.balance import balance_of
from lclip.choosing.confusion import confusion
from lclip.choosing.questions import labels_of, questions_in, questions_of, targets_of
from lclip.choosing.shares import shares_of
from lclip.mini import load_world
from lclip.mini.drawing import render, sample_scenes
from lclip.statistics import wilson

NAMES = ("a cat", "a dog")


def table(*rows):
    return torch.tensor(rows)


PROBABILITIES = table([0.9, 0.1], [0.8, 0.2], [0.52, 0.48], [0.1, 0.9], [math.nan, math.nan])


def test_hard_and_soft_shares_unclear_and_broken_items():
    found = shares_of(PROBABILITIES, NAMES)
    assert (found.unclear, found.broken) == (1, 1)
    assert [each.figures for each in found.hard] == [wilson(2, 3).figures, wilson(1, 3).figures]
    assert found.soft[0].value == pytest.approx((0.9 + 0.8 + 0.52 + 0.1) / 4)
    assert sum(each.value for each in found.soft) == pytest.approx(1)
    assert found.distance == pytest.approx(2 / 3 - 1 / 2)
    assert shares_of(PROBABILITIES, NAMES, (0.9, 0.1)).distance == pytest.approx(0.9 - 2 / 3)


def test_where_nothing_is_clear_the_soft_shares_count():
    found = shares_of(table([0.52, 0.48], [0.5, 0.5]), NAMES, (1.0, 0.0))
    assert found.unclear == 2 and math.isnan(found.hard[0].value)
    assert found.distance == pytest.approx(0.49)


@pytest.mark.parametrize("target", [(0.5, 0.6), (1.0,), (1.5, -0.5), (math.nan, 1.0)])
def test_targets_that_are_none_are_refused(target):
    with pytest.raises(ValueError, match="sum"):
        shares_of(PROBABILITIES, NAMES, target)


def test_a_confusion_matrix_takes_back_what_it_does():
    mixing = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    truth = torch.tensor([0.25, 0.75], dtype=torch.float64)
    seen = (truth @ mixing * 2000).round().long().tolist()
    rows = [[0.99, 0.01]] * seen[0] + [[0.01, 0.99]] * seen[1]
    found = shares_of(torch.tensor(rows), NAMES, confusion=mixing)
    assert found.hard[0].value == pytest.approx(0.45)
    assert found.corrected == pytest.approx((0.25, 0.75), abs=1e-3)
    labels = [0, 0, 0, 1]
    learnt = confusion(table([0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]), labels)
    torch.testing.assert_close(learnt, torch.tensor([[2 / 3, 1 / 3], [0.0, 1.0]], dtype=torch.float64))
    with pytest.raises(ValueError, match="no clear example"):
        confusion(table([0.9, 0.1]), [0])


def test_they_are_written_as_json_and_csv():
    found = shares_of(PROBABILITIES, ('a "tabby", striped', "a dog"))
    read = json.loads(found.to_json())
    assert read["concepts"][0] == 'a "tabby", striped' and read["distance"] == found.distance
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert rows[0]["items"] == "4" and rows[1]["unclear"] == "1" and rows[0]["corrected"] == ""
    assert rows[0]["concept"] == 'a "tabby", striped' and float(rows[1]["hard"]) == pytest.approx(1 / 3)


def test_on_the_mini_world_they_are_those_of_the_drawn_scenes():
    world = load_world()
    scenes = [s for s in sample_scenes(400, 5, split="dev") if s.content.ground and s.content.count == 1]
    scenes = scenes[:60]
    grounds = ("white", "grey", "black")
    pixels = torch.stack([torch.from_numpy(render(scene)).permute(2, 0, 1) for scene in scenes]) / 255
    with torch.no_grad():
        z = world.encode(pixels)
    names = [f"a shape on a {ground} ground" for ground in grounds]
    found = lclip.shares(world.latent_clip, z, names)
    for ground, hard in zip(grounds, found.hard, strict=True):
        truth = sum(scene.content.ground == ground for scene in scenes) / len(scenes)
        assert hard.value == pytest.approx(truth, abs=0.07)


def test_several_batches_of_other_sizes_count_as_one():
    model = load_world().latent_clip
    batches = [torch.randn(3, 4, 8, 8) * 6, torch.randn(2, 4, 12, 10) * 6]
    found = lclip.shares(model, iter(batches), ["a red star", "a blue ring"], margin=0)
    each = [lclip.shares(model, z, ["a red star", "a blue ring"], margin=0) for z in batches]
    assert found.items == 5
    assert 5 * found.hard[0].value == pytest.approx(
        sum(len(z) * s.hard[0].value for z, s in zip(batches, each, strict=True))
    )
    with pytest.raises(ValueError, match="no batch"):
        lclip.shares(model, [], ["a red star", "a blue ring"])


def test_questions_targets_and_labels_are_read_from_lines():
    assert questions_of("a cat | a dog\n red|blue |") == [["a cat", "a dog"], ["red", "blue"]]
    assert questions_of("a cat\n\n a dog ") == [["a cat", "a dog"]]
    assert targets_of("", 2) == [None, None] and targets_of("0.2|0.8", 2) == [[0.2, 0.8]] * 2
    assert targets_of("0.2|0.8\n1|0", 2) == [[0.2, 0.8], [1.0, 0.0]]
    assert labels_of("2 * a dog\na cat", [["a cat", "a dog"]], 3) == [[1, 1, 0]]
    assert labels_of("2*a | d\nb|c", [["a", "b"], ["c", "d"]], 3) == [[0, 0, 1], [1, 1, 0]]
    for call, said in (
        (lambda: questions_of("a cat |"), "two concepts"),
        (lambda: targets_of("0.5|half", 1), "half"),
        (lambda: targets_of("1|0\n1|0", 3), "2 lines"),
        (lambda: labels_of("a fox", [["a cat", "a dog"]], 1), "'a fox' is no concept"),
        (lambda: labels_of("a cat", [["a cat", "a dog"]], 2), "1 labels for 2 examples"),
        (lambda: labels_of("a cat", [["a cat", "a dog"], ["c", "d"]], 1), "has 1 parts"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_the_signs_of_any_keyboard_part_what_is_typed():
    assert questions_of("a cat ｜ a dog") == questions_of("a cat | a dog")
    assert targets_of("０.2｜０．8", 1) == [[0.2, 0.8]]
    assert labels_of("2 ＊ a dog\na cat", [["a cat", "a dog"]], 3) == [[1, 1, 0]]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["a cat | a dog"], [["a cat", "a dog"]]),
        (["a cat｜a dog", "red\nblue"], [["a cat", "a dog"], ["red", "blue"]]),
        (["a cat", "a dog", "a cat"], [["a cat", "a dog"]]),  # a list of concepts, a copy counts once
    ],
)
def test_a_list_of_texts_has_questions_or_concepts(texts, found):
    assert questions_in(texts) == found


def test_equal_concepts_are_refused():
    world = load_world()
    with pytest.raises(ValueError, match="one and the same"):
        lclip.shares(world.latent_clip, torch.randn(2, 4, 8, 8) * 6, ["a red star", "A red  star"])


@pytest.mark.parametrize("concepts", [[["a", "b"]], ["a", None], ["a", 2]])
def test_what_is_no_text_is_no_concept(concepts):
    chances = torch.tensor([[0.9, 0.1]])
    for ask in (shares_of, balance_of):
        with pytest.raises(ValueError, match="one of the concepts is .*expected a text"):
            ask(chances, concepts)


def test_empty_concepts_are_refused():
    model, z = load_world().latent_clip, torch.randn(2, 4, 8, 8) * 6
    for ask in (lclip.shares, lclip.balance):
        with pytest.raises(ValueError, match="one of the labels .* is empty"):
            ask(model, z, ["a red star", " "])
    with pytest.raises(ValueError, match="is empty"):
        lclip.ConceptReward(model, ["a red star", ""], [0, 1])


def test_a_batch_of_nothing_but_broken_items_counts_as_broken_beside_others():
    model, z = inputs.clip(), inputs.pictures(4)
    broken = torch.full_like(z[:3], torch.nan)
    found = lclip.shares(model, [z, broken], ["a red star", "a ring"])
    assert (found.items, found.broken) == (lclip.shares(model, z, ["a red star", "a ring"]).items, 3)
    for alone in (broken, [broken]):
        with pytest.raises(ValueError):
            lclip.shares(model, alone, ["a red star", "a ring"])


@pytest.mark.parametrize("labels", [[0, 1, -1], [0, 1, 5]])
def test_labels_that_are_no_concepts_are_refused(labels):
    with pytest.raises(ValueError, match=f"the label {labels[2]} is no concept"):
        confusion(torch.eye(3), labels)


@pytest.mark.parametrize("table", [[[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.52, 0.48]]])
def test_a_table_that_tells_nothing_apart_is_refused_and_not_solved(table):
    with pytest.raises(ValueError, match="nothing can be corrected by it"):
        shares_of(torch.eye(2), ["a", "b"], confusion=torch.tensor(table))


@pytest.mark.parametrize(
    "table", [torch.eye(2), torch.full((3, 3), torch.nan), 10 * torch.eye(3), -torch.eye(3)]
)
def test_what_is_no_confusion_table_is_refused(table):
    with pytest.raises(ValueError, match="rows sum to one"):
        shares_of(torch.eye(3), ["a", "b", "c"], confusion=table)


def test_a_text_is_no_list_of_concepts_and_a_huge_count_is_only_counted():
    with pytest.raises(ValueError, match="expected a list"):
        shares_of(torch.eye(2), "ab")
    with pytest.raises(ValueError, match="there are 99999999999 labels for 3"):
        labels_of("99999999999 * a cat", [["a cat", "a dog"]], 3)


def test_the_line_that_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"the line 'a red star'"):
        questions_of("a cat | a dog\na red star\na ring | a star")
    with pytest.raises(ValueError, match=r"target has 2 lines; expected one line, its shares parted by \|"):
        targets_of("0.5\n0.5", 1)


def test_a_model_that_is_in_training_is_asked_as_any_other():
    """No gradient is kept of what is only counted."""
    model, z = inputs.clip(), inputs.pictures(4)
    counts = []
    for trained in (False, True):
        model.requires_grad_(trained)
        counts.append([
            (found.items, found.unclear, found.to_json())
            for found in (lclip.shares(model, each, ["a red star", "a ring"]) for each in (z, [z, z]))
        ])  # fmt: skip
    model.requires_grad_(False)
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (torch.rand(4, 3), r"\[4, 3\]; expected \[items, 2\]"),
        (torch.rand(4), r"\[4\]; expected \[items, 2\]"),
        ([[0.5, 0.5]] * 4, "a list; expected"),
        (torch.tensor([[0.5, 0.5], [0.31, 0.22]]), r"\[0.31, 0.22\] are no probabilities"),  # cosines
        (torch.tensor([[0.5, 0.5], [2.0, -1.0]]), "are no probabilities"),  # logits
    ],
)
def test_what_are_no_probabilities_of_these_concepts_is_refused(found, said):
    for ask in (shares_of, balance_of):
        with pytest.raises(ValueError, match=said):
            ask(found, NAMES)


def test_half_precision_still_sums_to_one():
    found = torch.randn(64, 200).softmax(1)
    for dtype in (torch.float16, torch.bfloat16):
        assert shares_of(found.to(dtype), [f"a {n}" for n in range(200)]).items == 64


@pytest.mark.parametrize(
    ("labels", "said"), [([0, 0.5], "0.5 is no"), ([0, True], "True is no"), ([0], "1 labels")]
)
def test_labels_that_are_none(labels, said):
    with pytest.raises(ValueError, match=said):
        confusion(table([0.9, 0.1], [0.2, 0.8]), labels)
    right = confusion(table([0.9, 0.1], [0.2, 0.8]), torch.tensor([0, 1]))
    assert shares_of(table([0.9, 0.1], [0.2, 0.8]), NAMES, confusion=right.tolist()).corrected == (0.5, 0.5)
    for target in (0.5, "ab"):
        with pytest.raises(ValueError, match="expected 2 shares"):
            shares_of(PROBABILITIES, NAMES, target)
    with pytest.raises(ValueError, match="rewards are"):
        balance_of(table([0.9, 0.1], [0.2, 0.8]), NAMES, rewards=[1.0, 2.0])


# ---- how sure they are


def binomial(n: int, share: float) -> list[float]:
    """Exact 2.5 and 97.5 % points of a share of n."""
    from scipy.stats import binom

    return [float(binom.ppf(q, n, share)) / n for q in (0.025, 0.975)]


def test_a_distance_has_the_interval_of_the_share_that_it_is_of():
    """Of two concepts it is |share - 1/2|, so that its interval is the binomial's."""
    found = shares_of(table(*[[0.9, 0.1]] * 80, *[[0.1, 0.9]] * 20), NAMES)
    low, high = binomial(100, 0.8)
    assert found.distance_interval().figures == pytest.approx((0.3, low - 0.5, high - 0.5), abs=0.011)


def test_corrected_shares_have_intervals_that_know_how_few_the_examples_are():
    """By hand: with rows (1, 0) and (r, 1 - r) the true share of the first is (s - r) / (1 - r)."""
    asked = table(*[[0.9, 0.1]] * 80, *[[0.1, 0.9]] * 20)
    shown = [[0.9, 0.1]] * 20 + [[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 16
    counts = confusion(table(*shown), [0] * 20 + [1] * 20, counts=True)
    assert counts.tolist() == [[20, 0], [4, 16]] and not counts.is_floating_point()
    exact = confusion(table(*shown), [0] * 20 + [1] * 20)
    widths = []
    for mixing in (exact, counts):
        found = shares_of(asked, NAMES, confusion=mixing)
        assert found.corrected == pytest.approx((0.75, 0.25))
        first, second = found.corrected_intervals
        assert first.low < 0.75 < first.high and first.low == pytest.approx(1 - second.high)
        widths.append(first.high - first.low)
        assert found.distance_interval().low <= found.distance <= found.distance_interval().high
        written = found.as_json()
        assert written["distance_low"] == found.distance_interval().low and "distance_bounds" not in written
        (row, _) = csv.DictReader(io.StringIO(found.to_csv()))
        told = [float(row[name]) for name in ("corrected", "corrected_low", "corrected_high")]
        assert told == pytest.approx(first.figures, abs=1e-5)
    low, high = ((share - 0.2) / 0.8 for share in binomial(100, 0.8))
    assert widths[0] == pytest.approx(high - low, abs=0.02) and widths[1] > 1.1 * widths[0]


def test_the_interval_of_corrected_shares_holds_the_truth_as_often_as_it_says():
    """A drawn world: 40 examples of each, 100 items, three concepts."""
    draws = torch.Generator().manual_seed(3)
    truth, mixing = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[8.0, 1, 1], [2, 7, 1], [0, 2, 8]]) / 10
    sure, hits = torch.eye(3).double() * 0.85 + 0.05, []
    for _ in range(60):
        labels = torch.arange(3).repeat_interleave(40)
        seen = torch.multinomial(mixing[labels], 1, generator=draws)[:, 0]
        known = confusion(sure[seen], labels.tolist(), counts=True)
        items = torch.multinomial(truth, 100, replacement=True, generator=draws)
        found = shares_of(
            sure[torch.multinomial(mixing[items], 1, generator=draws)[:, 0]], [*"abc"], confusion=known
        )
        own = zip(found.corrected_intervals, truth.tolist(), strict=True)
        hits += [each.low <= share <= each.high for each, share in own]
    assert sum(hits) / len(hits) > 0.88


def test_where_nothing_is_clear_the_distance_is_of_the_soft_shares_and_has_an_interval():
    draws = torch.Generator().manual_seed(0)
    first = 0.5 + 0.04 * torch.rand(200, generator=draws).double()
    found = shares_of(torch.stack([first, 1 - first], 1), NAMES)
    spread = 1.96 * float(first.std()) / 200**0.5
    assert found.hard[0].n == 0 and found.distance_interval().n == 200
    wanted = (float(first.mean()) - 0.5 + sign * spread for sign in (0, -1, 1))
    assert found.distance_interval().figures == pytest.approx(tuple(wanted), abs=3e-4)
