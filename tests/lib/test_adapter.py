"""Latent adapters: they find a known map, pass gradients, and go wherever a Latent-CLIP goes."""

import logging
from dataclasses import replace

import pytest
import tiny
import torch
import torch.nn.functional as F

import lclip
from lclip.adapters.adapter import AdapterShape, adapted_config
from lclip.adapters.encoding import FEWEST
from lclip.checkpoints.fingerprint import fingerprint
from lclip.latents.spaces import LatentSpace

WORDS = ["a", "red", "square", "blue", "circle", "green", "on", "photo"]
QUICK = lclip.AdapterSettings(steps=60, batch=8, width=16, depth=1, check_every=10)
WIDE = lclip.space_named("mini-16")
COARSE = LatentSpace("coarse", "coarse latents", 8, 16, 1.0, 1.0)
FINE = LatentSpace("fine", "fine latents", 3, 4, 1.0, 1.0)


@pytest.fixture(scope="module")
def clip():
    return tiny.random_model(
        tiny.tiny_config(WORDS, embed_dim=16, width=32, layers=1, heads=2), WORDS, seed=3
    )


def smooth(number: int, channels: int, size: int, seed: int = 0) -> torch.Tensor:
    """Fields whose neighbouring cells are alike, as latents of pictures are."""
    coarse = torch.randn(number, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return 4 * F.interpolate(coarse, (size, size), mode="bicubic")


def mixing(seed: int = 1) -> torch.Tensor:
    """A fixed 16x4 matrix of orthonormal columns: what the two spaces have in common in these tests."""
    return torch.linalg.qr(torch.randn(16, 4, generator=torch.Generator().manual_seed(seed))).Q


def wide_of(target: torch.Tensor) -> torch.Tensor:
    """16-channel latents of which the 4-channel ones are a linear function, and 12 directions of noise."""
    rest = smooth(len(target), 16, target.shape[-1], seed=7)
    q = mixing()
    inside = torch.einsum("dc,ndhw->nchw", q, rest)
    return rest + torch.einsum("dc,nchw->ndhw", q, target / 3 - inside) + 0.4


def encoded(number: int = 60, seed: int = 0) -> lclip.EncodedPictures:
    target = smooth(number, 4, 8, seed)
    return lclip.EncodedPictures(wide_of(target), target, torch.arange(number))


@pytest.fixture(scope="module")
def adapter(clip):
    return lclip.train_adapter(clip, WIDE, encoded(), QUICK)


def test_a_known_map_is_found(clip, adapter):
    fresh = encoded(12, seed=99)
    with torch.no_grad():
        found = adapter(fresh.source)
    error = (found - fresh.target).square().mean() / fresh.target.var()
    assert error < 0.01
    assert adapter.figures.latent_error < 0.01 and adapter.figures.cosine > 0.99
    assert adapter.figures.pictures == 60 and adapter.figures.held_out == 6
    assert adapter.figures.steps == 60 and adapter.figures.seconds > 0


def test_training_improves_on_the_best_linear_map(clip):
    """Latents that are no linear function of the others: the correction has something to learn."""
    target = smooth(80, 4, 8)
    source = torch.einsum("dc,nchw->ndhw", mixing(), target * target.abs())
    pictures = lclip.EncodedPictures(source, target, torch.arange(80))
    training = lclip.AdapterTraining(clip, WIDE, pictures, replace(QUICK, steps=250, width=32))
    before = training.latent_error, training.cosine
    for _ in training:
        pass
    figures = training.result().figures
    assert figures.latent_error < 0.7 * before[0] and figures.cosine > before[1]


def test_what_cannot_be_known_is_not_answered_with_too_little_spread(clip):
    """Half of the target is not in the source: the squared error alone would leave 0.7 of the spread."""
    target = smooth(96, 4, 8)
    known = (target + smooth(96, 4, 8, seed=5)) / 2**0.5
    pictures = lclip.EncodedPictures(torch.einsum("dc,nchw->ndhw", mixing(), known), target, torch.arange(96))
    kept = {}
    for weight in (0.0, 3.0):
        settings = replace(QUICK, steps=150, cosine_weight=0.0, spread_weight=weight, check_every=150)
        training = lclip.AdapterTraining(clip, WIDE, pictures, settings)
        for _ in training:
            pass
        with torch.no_grad():
            mapped = training.average.module(training.test_source)
        kept[weight] = float((mapped.std((0, 2, 3)) / training.test_target.std((0, 2, 3))).mean())
    assert kept[0.0] < 0.8 and kept[3.0] > kept[0.0] + 0.08


def test_the_figures_are_those_of_pictures_that_were_not_trained_on(clip):
    pictures = encoded(40)
    training = lclip.AdapterTraining(clip, WIDE, pictures, QUICK)
    held_out = {tuple(z.flatten()[:4].tolist()) for z in training.test_source}
    trained_on = {tuple(z.flatten()[:4].tolist()) for z in training.source}
    assert len(held_out) == 4 and len(trained_on) == 36 and not held_out & trained_on
    for _ in training:
        pass
    adapter = training.result()
    with torch.no_grad():
        mapped = adapter(training.test_source)
        cosine = (clip.encode_latents(mapped) * clip.encode_latents(training.test_target)).sum(-1).mean()
    assert adapter.figures.cosine == pytest.approx(float(cosine), abs=1e-5)


def test_a_mirror_image_is_held_out_with_its_picture(clip):
    sides = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(2))

    def encode(channels):
        def apply(pixels):
            return pixels.mean(1, keepdim=True).expand(-1, channels, -1, -1) * torch.arange(
                1, channels + 1
            ).view(1, -1, 1, 1)

        return apply

    pictures = lclip.encode_pictures(sides.split(6), encode(16), encode(4))
    assert pictures.source.shape == (40, 16, 8, 8) and pictures.number == 20
    assert torch.equal(pictures.picture[pictures.firsts()], torch.arange(20))
    training = lclip.AdapterTraining(clip, WIDE, pictures, QUICK)
    for picture in training.test_source:
        for other in (picture, picture.flip(-1)):
            assert not (training.source == other).flatten(1).all(1).any()


def test_the_same_seed_gives_the_same_adapter_and_another_another(clip):
    first, again, other = (
        lclip.train_adapter(clip, WIDE, encoded(), replace(QUICK, steps=15, seed=seed)) for seed in (1, 1, 2)
    )
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(first.enter.weight, other.enter.weight)


def test_training_can_be_left_at_any_time(clip):
    training = lclip.AdapterTraining(clip, WIDE, encoded(), QUICK)
    untrained = training.result()
    assert untrained.figures.steps == 0  # the closed-form map, measured
    for step in training:
        if step.step == 25:
            break
    half = training.result()
    assert half.figures.steps == 25
    assert half.figures.latent_error <= untrained.figures.latent_error + 0.01
    assert [step.step for step in training][-1] == 60  # and be gone on with


def test_it_reads_as_the_model_reads_the_mapped_latents(clip, adapter):
    adapted = lclip.apply_adapter(clip, adapter)
    z = encoded(5, seed=4).source
    mapped = adapter(z)
    torch.testing.assert_close(adapted.encode_latents(z), clip.encode_latents(mapped))
    torch.testing.assert_close(
        lclip.similarity(adapted, z, WORDS[:2]), lclip.similarity(clip, mapped, WORDS[:2])
    )
    torch.testing.assert_close(lclip.classify(adapted, z, WORDS), lclip.classify(clip, mapped, WORDS))
    torch.testing.assert_close(lclip.heatmap(adapted, z, "red"), lclip.heatmap(clip, mapped, "red"))
    assert torch.equal(adapted.encode_text("a red square"), clip.encode_text("a red square"))
    assert adapted.logit_scale == clip.logit_scale and adapted.tokenizer is clip.tokenizer
    assert (adapted.config.channels, adapted.config.latent_space) == (16, "mini-16")
    assert adapted.config.native_size == clip.config.native_size == 8
    assert clip.config.channels == 4


def test_a_gradient_passes_as_finite_differences_say(clip, adapter):
    adapted = lclip.apply_adapter(
        tiny.random_model(clip.config, WORDS, seed=3).double(), lclip.LatentAdapter(adapter.shape).double()
    )
    adapted.adapter.load_state_dict(adapter.state_dict())
    reward = lclip.TextReward(adapted, "a red circle")
    z = encoded(1, seed=5).source.double().requires_grad_()
    (gradient,) = torch.autograd.grad(reward(z).sum(), z)
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-5
    with torch.no_grad():
        slope = (reward(z + step * direction) - reward(z - step * direction)).sum() / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_reno_and_a_policy_work_on_the_other_space(clip, adapter):
    adapted = lclip.apply_adapter(clip, adapter)
    noise = encoded(3, seed=6).source
    result = lclip.reno(lambda z: z, noise, lclip.TextReward(adapted, "a red circle"))
    assert result.best_latents.shape == noise.shape and bool(
        (result.best_reward > result.initial_reward).all()
    )
    concepts = lclip.parse_concepts("redness: a red square // a blue square")
    verdicts = lclip.SafetyPolicy(concepts).judge(adapted, noise)
    direct = lclip.SafetyPolicy(concepts).judge(clip, adapter(noise))
    assert [v.probability for v in verdicts] == pytest.approx([v.probability for v in direct], abs=1e-6)


def test_it_is_another_model_to_thresholds_and_sums(clip, adapter):
    adapted = lclip.apply_adapter(clip, adapter)
    assert fingerprint(adapted) not in (fingerprint(clip), fingerprint(lclip.apply_adapter(clip, blank())))
    bound = lclip.SafetyPolicy(
        lclip.parse_concepts("redness: a red square // a blue square"), model=fingerprint(clip)
    )
    with pytest.raises(ValueError, match="calibrate it again"):
        bound.judge(adapted, encoded(1).source)
    with pytest.raises(ValueError, match=r"mini latents \(4 channels\).*mini-16 latents \(16 channels\)"):
        lclip.RewardSum([lclip.TextReward(clip, "red"), lclip.TextReward(adapted, "red")])


def blank(source=WIDE, target="mini", **sizes) -> lclip.LatentAdapter:
    return lclip.LatentAdapter(
        AdapterShape(source, lclip.space_named(target), **{"width": 8, "depth": 1, **sizes})
    )


@pytest.mark.parametrize("space, cells", [(COARSE, 4), (FINE, 16)])
def test_cells_of_another_size_are_split_or_merged(clip, space, cells):
    target = smooth(40, 4, 8)
    blocks = F.pixel_unshuffle(target, 2) if space is COARSE else F.interpolate(target, scale_factor=2.0)
    lift = torch.randn(space.channels, blocks.shape[1], generator=torch.Generator().manual_seed(3))
    if space is COARSE:  # 16 numbers per cell do not fit into 8: keep what a linear map can
        lift = torch.linalg.qr(lift.T).Q.T
    source = torch.einsum("dc,nchw->ndhw", lift, blocks)
    pictures = lclip.EncodedPictures(source, target, torch.arange(40))
    assert source.shape[-1] == cells
    adapter = lclip.train_adapter(clip, space, pictures, QUICK)
    adapted = lclip.apply_adapter(clip, adapter)
    assert adapter(source).shape == target.shape
    assert adapted.config.native_size == cells
    assert adapter.figures.latent_error < (0.5 if space is COARSE else 0.3)
    assert lclip.heatmap(adapted, source[:2], "red").shape == (2, cells, cells)
    assert adapted.encode_latents(source[:1, :, :, : cells // 2]).shape == (1, 16)


def test_odd_sizes_are_read_too(clip):
    adapted = lclip.apply_adapter(clip, blank(FINE))
    assert adapted.encode_latents(torch.randn(1, 3, 17, 21)).shape == (1, 16)
    with pytest.raises(ValueError, match="at least one patch of 4x4"):
        adapted.encode_latents(torch.randn(1, 3, 3, 8))


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one cell per 42 pixels.*one per 8"):
        AdapterShape(lclip.space_named("cascade-c"), lclip.space_named("sdxl"))
    sizes = {"embed_dim": 16, "width": 32, "layers": 1, "heads": 2, "patch_size": 1, "grid": 7}
    odd = tiny.tiny_config(WORDS, **sizes)
    with pytest.raises(ValueError, match="7x7 latents"):
        adapted_config(odd, AdapterShape(COARSE, lclip.space_named("mini")))


def test_an_adapter_that_leads_elsewhere_is_refused_by_name(clip, adapter):
    elsewhere = blank(lclip.space_named("flux"), "sdxl")
    with pytest.raises(ValueError, match="reads the mini world's latents; the adapter leads to SDXL latents"):
        lclip.apply_adapter(clip, elsewhere)
    with pytest.raises(ValueError, match="behind an adapter already"):
        lclip.apply_adapter(lclip.apply_adapter(clip, adapter), adapter)


def test_latents_of_another_space_are_refused_by_name(clip, adapter):
    adapted = lclip.apply_adapter(clip, adapter)
    with pytest.raises(ValueError, match="4 channels.*the mini world's 16-channel latents"):
        lclip.similarity(adapted, torch.randn(1, 4, 8, 8), "red")


def test_one_that_was_trained_with_another_checkpoint_is_taken_with_a_warning(clip, adapter, caplog):
    other = tiny.random_model(clip.config, WORDS, seed=8)
    with caplog.at_level(logging.WARNING, logger="latent-clip"):
        lclip.apply_adapter(clip, adapter)
        assert not caplog.records
        lclip.apply_adapter(other, adapter)
    assert fingerprint(clip) in caplog.text and fingerprint(other) in caplog.text


def test_a_checkpoint_cannot_hold_an_adapter(clip, adapter, tmp_path):
    with pytest.raises(ValueError, match="save_adapter"):
        lclip.save_checkpoint(lclip.apply_adapter(clip, adapter), tmp_path / "both.safetensors")


def with_changes(pictures: lclip.EncodedPictures, **changes) -> lclip.EncodedPictures:
    return lclip.EncodedPictures(**{**vars(pictures), **changes})


BAD = {
    "one": (lambda p: lclip.EncodedPictures(p.source[:1], p.target[:1], p.picture[:1]), "1 picture to learn"),
    "few": (lambda p: lclip.EncodedPictures(p.source[:7], p.target[:7], p.picture[:7]), f"at least {FEWEST}"),
    "none": (lambda p: lclip.EncodedPictures(p.source[:0], p.target[:0], p.picture[:0]), "0 pictures"),
    "equal": (lambda p: with_changes(p, source=p.source[:1].expand(60, -1, -1, -1),
                                     target=p.target[:1].expand(60, -1, -1, -1)), "all 60 pictures give"),
    "nan": (lambda p: with_changes(p, source=p.source * float("nan")), "NaN or infinity"),
    "swapped": (lambda p: with_changes(p, source=p.target, target=p.source), "Use the VAE of that space"),
    "other factor": (lambda p: with_changes(p, source=F.avg_pool2d(p.source, 2)), "4x4 cells in .* and 8x8"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_pictures_that_nothing_can_be_learnt_from_are_refused(clip, case):
    change, text = BAD[case]
    with pytest.raises(ValueError, match=text):
        lclip.AdapterTraining(clip, WIDE, change(encoded()), QUICK)


def test_equal_pictures_are_one_picture_also_with_their_mirror_images(clip):
    pictures = torch.rand(1, 3, 8, 8).expand(10, -1, -1, -1)
    same = lclip.encode_pictures(
        [pictures], lambda x: x.repeat(1, 6, 1, 1)[:, :16], lambda x: x.repeat(1, 2, 1, 1)[:, :4]
    )
    with pytest.raises(ValueError, match="all 10 pictures give the same"):
        lclip.AdapterTraining(clip, WIDE, same, QUICK)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"held_out": 0.0}, {"held_out": 1.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        lclip.AdapterSettings(**wrong)


@pytest.mark.parametrize("sizes", [{"width": 0}, {"width": 10**9}, {"depth": -1}, {"depth": 10**6}])
def test_sizes_that_cannot_be_are_refused(sizes):
    with pytest.raises(ValueError, match=next(iter(sizes))):
        blank(**sizes)
