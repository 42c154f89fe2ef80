"""Embeddings that are remembered: those of the model, and never those of what has changed."""

from __future__ import annotations

import pytest
import torch

import lclip
from lclip.adapters.adapter import AdapterShape
from lclip.mini.world import load_world
from lclip.model import memory
from lclip.model.memory import EmbeddingMemory

TEXTS = ["a red star", "a blue ring"]


@pytest.fixture(params=["on the CPU", "elsewhere"], autouse=True)
def place(request, monkeypatch):
    """Latents are told apart by their bytes, or by sums that are made where they are."""
    if request.param == "elsewhere":
        monkeypatch.setattr(memory, "_digests", memory._sums)


@pytest.fixture
def model():
    with torch.inference_mode(False):  # as the host loads it: the weights have versions
        model = load_world().latent_clip
    model.memory = EmbeddingMemory()
    return model


@pytest.fixture
def passes(model):
    """Batches that the image tower was asked for, so far."""
    seen: list[int] = []
    model.visual.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


@pytest.fixture
def latents():
    return 6 * torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def as_nodes_run():
    with torch.inference_mode():
        yield


def fresh(latents, texts=None):
    plain = load_world().latent_clip
    return plain.encode_latents(latents) if texts is None else plain.encode_text(texts)


def test_score_reward_classes_and_gate_read_a_batch_once(model, passes, latents):
    lclip.similarity(model, latents, TEXTS)
    lclip.TextReward(model, TEXTS[0])(latents)
    lclip.classify(model, latents, TEXTS)
    policy = lclip.SafetyPolicy((lclip.Concept("ring", ("a ring",), ("a star",)),), augmentations=("whole",))
    policy.judge(model, latents)
    assert passes == [5]
    lclip.TextReward(model, TEXTS[1])(latents[[3, 1]])
    assert passes == [5]  # what Select kept is known too
    assert torch.equal(model.encode_latents(latents), fresh(latents))


def test_what_is_not_known_is_read_whole(model, passes, latents):
    model.encode_latents(latents[:2])
    assert torch.equal(model.encode_latents(latents), fresh(latents))
    assert passes == [2, 5]


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z.clone().index_put_((torch.tensor(0), torch.tensor(0)), torch.tensor(1e-3)),
        lambda z: z.half(),
        lambda z: z.bfloat16(),
        lambda z: z.flip(-1),
        lambda z: z[:, :, None],  # one frame
        lambda z: z.transpose(-1, -2),
        lambda z: torch.cat([z, z], 2),  # another shape
    ],
)
def test_other_latents_get_their_own(model, latents, change):
    model.encode_latents(latents)
    changed = change(latents)
    torch.testing.assert_close(model.encode_latents(changed), fresh(changed), rtol=1e-5, atol=1e-5)


def test_latents_that_were_written_into_are_read_again(model, latents):
    model.encode_latents(latents)
    latents[2].mul_(-1)
    assert torch.equal(model.encode_latents(latents), fresh(latents))


def test_another_rule_reads_again(model, passes):
    large = 6 * torch.randn(2, 4, 12, 12)
    found = [model.encode_latents(large, rule) for rule in ("interpolate", "resize", "interpolate")]
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1])
    assert len(passes) == 2


def in_place(weight):
    weight.mul_(-1)


def by_data(weight):
    weight.data.mul_(-1)


def by_another_tensor(weight):
    weight.data = -weight.data


@pytest.mark.parametrize("change", [in_place, by_data, by_another_tensor])
@pytest.mark.parametrize(("made", "changed"), [(False, False), (False, True), (True, True)])
def test_changed_weights_forget_all(latents, made, changed, change):
    """Whether or not in inference mode, where tensors have no version."""
    with torch.inference_mode(made):
        model = load_world().latent_clip
    model.memory = EmbeddingMemory()
    with torch.inference_mode(changed), torch.no_grad():
        before, texts = model.encode_latents(latents), model.encode_text(TEXTS)
        change(model.visual.proj)
        change(model.text_projection)
        torch.testing.assert_close(model.encode_latents(latents), -before)
        torch.testing.assert_close(model.encode_text(TEXTS), -texts)


def test_texts_are_encoded_once_for_each_vocabulary(model, monkeypatch):
    asked: list[int] = []
    tower = model.encode_tokens
    monkeypatch.setattr(model, "encode_tokens", lambda ids: (asked.append(len(ids)), tower(ids))[1])
    first = model.encode_text(TEXTS)
    assert torch.equal(model.encode_text(TEXTS), first) and asked == [2]
    assert torch.equal(model.encode_text(TEXTS[1]), first[1:]) and asked == [2]
    words = list(model.tokenizer.vocabulary)
    red, blue = words.index("red"), words.index("blue")
    words[red], words[blue] = words[blue], words[red]
    model._tokenizer = lclip.WordTokenizer(words, model.config.context_length)
    assert not torch.allclose(model.encode_text(TEXTS), first)


def test_gradients_pass_as_without(model, latents):
    model.encode_latents(latents)
    with torch.inference_mode(False), torch.enable_grad():
        z = latents.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(lclip.TextReward(model, TEXTS[0])(z).sum(), z)
    assert gradient.abs().sum() > 0


@pytest.fixture
def texts(model):
    """Rows that the text tower was asked for, so far."""
    seen: list[int] = []
    model.transformer.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


def test_labels_in_many_templates_are_encoded_once(model, texts, latents):
    """More sentences than texts are kept, as of 1000 labels in 80 templates."""
    model.memory = EmbeddingMemory(most_texts=8)
    templates = ["a {}", "a red {}", "a blue {}", "a green {} on a grey ground", "a yellow {}"]
    found = [lclip.classify(model, latents, ["star", "ring"], templates) for _ in range(3)]
    assert texts == [10]
    fresh_model = load_world().latent_clip
    torch.testing.assert_close(found[2], lclip.classify(fresh_model, latents, ["star", "ring"], templates))
    lclip.classify(model, latents, ["star", "ring"], templates[:2])  # another mean
    lclip.classify(model, latents, ["star", "cross"], templates)
    assert texts == [10, 4, 10]


def test_latents_and_texts_do_not_drive_each_other_out(model, texts, latents):
    model.memory = EmbeddingMemory(most=6, most_texts=4)
    lclip.similarity(model, latents, TEXTS)
    for step in range(1, 4):
        lclip.similarity(model, latents + step, TEXTS)
    assert texts == [2]


def test_behind_an_adapter_labels_are_remembered_too(model, texts):
    shape = AdapterShape(lclip.space_named("sd1.5"), lclip.space_named(model.config.latent_space), 8, 1)
    adapted = lclip.apply_adapter(model, lclip.LatentAdapter(shape))
    z = 4 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for step in range(3):
        lclip.classify(adapted, z + step, ["star", "ring"], ["a {}", "a red {}"])
    assert texts == [4]


def test_it_stays_small_and_what_it_gives_is_not_its_own(model, passes, latents):
    model.memory = EmbeddingMemory(most=6)
    model.encode_latents(latents).zero_()
    assert torch.equal(model.encode_latents(latents), fresh(latents)) and passes == [5]
    model.encode_latents(latents + 1)  # five others: only one of the first is kept
    assert len(model.memory._latents.known) == 6
    model.encode_latents(latents)
    assert passes == [5, 5, 5]
    assert model.encode_latents(torch.cat([latents, latents + 2])).shape[0] == 10  # more than it may keep


def test_broken_items_stay_broken(model, latents):
    latents[1] = torch.nan
    for _ in range(2):
        found = model.encode_latents(latents)
        assert found[1].isnan().all() and found[[0, 2, 3, 4]].isfinite().all()


@pytest.mark.parametrize("numbers", [3, 4, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_every_number_counts_in_a_sum(numbers, dtype):
    """Also where the bytes fill no whole number of 32 bits: each item with one number changed has its own."""
    z = torch.arange(1, numbers + 1).to(dtype).repeat(numbers + 2, 1)
    z[torch.arange(numbers), torch.arange(numbers)] += 1
    sums = memory._sums(z)
    assert len(set(sums)) == numbers + 1 and sums[-1] == sums[-2]
    swapped = z[-1:].clone()
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    assert memory._sums(swapped)[0] not in sums


def test_nothing_is_looked_up_while_somebody_records_a_graph(model, passes, latents, monkeypatch):
    monkeypatch.setattr(memory, "recording", lambda _: True)
    monkeypatch.setattr(memory, "_digests", lambda _: pytest.fail("it would wait for the GPU"))
    for _ in range(2):
        assert torch.equal(model.encode_latents(latents), fresh(latents))
    assert passes == [5, 5]
