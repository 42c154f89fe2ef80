"""A fingerprint follows every change that changes an answer, however it is made, and nothing else."""

import pytest
import safety_worlds as worlds
import torch

import lclip
from lclip.adapters.adapter import AdapterShape
from lclip.checkpoints import fingerprint as module
from lclip.checkpoints.fingerprint import fingerprint
from lclip.model.bpe import BPETokenizer
from lclip.model.tokenizer import WordTokenizer

CLIPS = lclip.LatentCLIPConfig(8, 4, 2, 4, 8, 1, 1, 8, 1, 1, 77, 49408)


def counting(tokenizer=None):
    """A model that reads CLIP's vocabulary, its weights counted up: the same for ever."""
    model = lclip.LatentCLIP(CLIPS, tokenizer=tokenizer)
    with torch.no_grad():
        for _, weight in model.named_parameters():
            weight.copy_((torch.arange(weight.numel()) % 17 - 8).reshape(weight.shape) / 32)
    return model


def test_files_that_are_out_there_keep_their_fingerprints():
    """Recorded before vocabularies counted: CLIP's own, in every file that is out there, changes nothing."""
    model = counting()
    assert fingerprint(model) == "d3267705a86e159a"
    model.encode_text("a fox")  # the vocabulary is there now
    assert fingerprint(model) == "d3267705a86e159a"
    assert fingerprint(counting(BPETokenizer())) == "d3267705a86e159a"


def negate(model):
    with torch.no_grad():
        model.visual.proj.mul_(-1)


def negate_data(model):
    model.visual.proj.data.mul_(-1)


def another_tensor(model):
    model.visual.proj.data = model.visual.proj.data.clone() * -1


def another_parameter(model):
    model.visual.proj = torch.nn.Parameter(-model.visual.proj.detach(), requires_grad=False)


def one_number(model):
    model.transformer.resblocks[0].mlp.c_fc.weight.data[3, 5] += 0.01


def two_rows(model):
    rows = model.token_embedding.weight.data
    rows[[4, 5]] = rows[[5, 4]]


def two_columns(model):
    weight = model.text_projection.data
    weight[:, [0, 1]] = weight[:, [1, 0]]


def temperature(model):
    model.log_logit_scale.data.add_(0.5)


def loaded(model):
    model.load_state_dict(worlds.tiny_clip(seed=8).state_dict())


def two_words(model):
    ids = model.tokenizer.ids
    ids["blood"], ids["arm"] = ids["arm"], ids["blood"]


def another_tokenizer(model):
    words = [*worlds.WORDS]
    words[3], words[5] = words[5], words[3]
    model._tokenizer = WordTokenizer(words, model.tokenizer.context_length)


CHANGES = [negate, negate_data, another_tensor, another_parameter, one_number, two_rows, two_columns]
CHANGES += [temperature, loaded, two_words, another_tokenizer]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("inference", [False, True])
def test_whatever_changes_an_answer_is_seen_and_undoes_a_calibration(change, inference):
    with torch.inference_mode(inference):
        model = worlds.tiny_clip()
        before = fingerprint(model)
        policy = worlds.policy(model=before)
        policy.judge(model, worlds.pictures())
        change(model)
        after = fingerprint(model)
        with pytest.raises(ValueError, match="calibrate it again"):
            policy.judge(model, worlds.pictures())
    assert after != before
    assert after == fingerprint(model)


def adapted():
    model = worlds.tiny_clip()
    shape = AdapterShape(lclip.space_named("mini-16"), lclip.space_named("mini"), width=8, depth=1)
    return model, lclip.apply_adapter(model, lclip.LatentAdapter(shape).requires_grad_(False))


@pytest.mark.parametrize("change", [negate_data, two_words])
def test_a_change_behind_an_adapter_is_seen_too(change):
    model, together = adapted()
    before = fingerprint(together)
    change(model)
    assert fingerprint(together) != before


def test_a_change_in_an_adapter_is_seen_too():
    model, together = adapted()
    before, alone = fingerprint(together), fingerprint(model)
    next(together.adapter.parameters()).data.mul_(-1)
    assert fingerprint(together) != before and fingerprint(model) == alone


def test_two_merges_swapped_are_another_vocabulary():
    tokenizer = BPETokenizer()
    before = fingerprint(counting(tokenizer))
    ids = tokenizer._ids
    one, two = ids["cat</w>"], ids["dog</w>"]
    try:
        ids["cat</w>"], ids["dog</w>"] = two, one
        assert fingerprint(counting(tokenizer)) != before
    finally:
        ids["cat</w>"], ids["dog</w>"] = one, two  # the library keeps one copy
    assert fingerprint(counting(tokenizer)) == before


def test_what_changes_no_answer_is_not_seen():
    model = worlds.tiny_clip()
    before = fingerprint(model)
    model.requires_grad_(True).train()
    assert fingerprint(model) == before
    assert fingerprint(worlds.tiny_clip().half()) == before
    assert fingerprint(worlds.tiny_clip()) == before
    assert fingerprint(worlds.tiny_clip().double()) == before


def test_it_is_worked_out_once_as_long_as_nothing_changes(monkeypatch):
    worked = []
    real = module._worked_out
    monkeypatch.setattr(module, "_worked_out", lambda model: worked.append(1) or real(model))
    model = worlds.tiny_clip()
    for _ in range(3):
        fingerprint(model)
    assert len(worked) == 1
    with torch.inference_mode():
        held = worlds.tiny_clip()
        for _ in range(3):
            fingerprint(held)
    assert len(worked) == 2
