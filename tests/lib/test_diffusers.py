"""lclip.diffusers on tiny random pipelines, against the pipelines alone and diffusers' own schedulers."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

import lclip

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
tiny_pipelines = pytest.importorskip("tiny_pipelines")

import lclip.diffusers as wing  # noqa: E402
from lclip.diffusers.steps import BY_BOTH, BY_SIGMA, BY_TIME, clean_parts  # noqa: E402
from lclip.latents.items import item_seed  # noqa: E402
from lclip.rewards.rewards import LatentReward  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

PROMPT = "a photo of a red circle"
CALL = {"prompt": PROMPT, "height": 64, "width": 64}
FLUX2 = ("FLUX.2", "FLUX.2 dev")
LONG = ("FLUX", "SD3", "Z-Image", *FLUX2, "Qwen-Image")
SPACES = {"SDXL": "sdxl", "SD": "sd1.5", "FLUX": "flux", "SD3": "sd3", "Z-Image": "flux"}
SPACES |= {**dict.fromkeys(FLUX2, "flux2"), "Qwen-Image": "wan2.1"}


class Light(LatentReward):
    """The first channel: a reward whose gradient anyone can write down."""

    def __init__(self, space="sdxl", channels=4, weight=1.0):
        super().__init__(weight, "light", channels, space)

    def score(self, latents):
        return latents[:, 0].mean((1, 2))


def light(kind):
    return Light(SPACES[kind], tiny_pipelines.SCALES[kind][0])


def by_words(model, pipe, kind):
    """A reward of a text; for latents that no adapter which is shipped reads, of lightness."""
    if kind == "Qwen-Image":
        return light(kind)
    return lclip.TextReward(wing.reader(model, pipe), "a red circle")


@pytest.fixture(scope="module")
def pipes():
    return {kind: tiny_pipelines.pipeline(kind) for kind in tiny_pipelines.KINDS}


def call(kind, steps, **other):
    return {
        **CALL,
        "num_inference_steps": steps,
        **({"max_sequence_length": 8} if kind in LONG else {}),
        **({"text_encoder_out_layers": (1, 2)} if kind in FLUX2 else {}),
        **other,
    }


def latents(pipe, kind, steps, seed=0, **other):
    given = {"generator": torch.Generator("cpu").manual_seed(seed), "output_type": "latent", **other}
    return pipe(**call(kind, steps), **given).images


def with_scheduler(pipe, name, **config):
    pipe.scheduler = getattr(diffusers, f"{name}Scheduler").from_config(pipe.scheduler.config, **config)
    return pipe


@pytest.mark.parametrize("kind", tiny_pipelines.KINDS)
def test_the_space_is_read_from_the_vae(pipes, kind):
    assert wing.pipeline_space(pipes[kind]).name == SPACES[kind]


@pytest.mark.parametrize("kind", tiny_pipelines.KINDS)
def test_what_is_decoded_is_the_pipelines_own_picture(pipes, kind):
    """And raw latents are the same from the last step's form and from what leaves the pipeline."""
    pipe, seen = pipes[kind], {}
    form = wing.PipelineLatents.of(pipe)

    def look(pipe, step, timestep, kwargs):
        seen["last"] = kwargs["latents"]
        return kwargs

    raw = form.to_raw(latents(pipe, kind, 2, callback_on_step_end=look))
    assert raw.shape[:2] == (1, form.space.channels) and raw.shape[2] * form.space.factor == 64
    torch.testing.assert_close(form.to_raw(seen["last"]), raw, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(form.from_raw(raw, seen["last"]), seen["last"], rtol=1e-3, atol=1e-3)
    own = pipe(**call(kind, 2), generator=torch.Generator("cpu").manual_seed(0), output_type="pt").images
    decoded = [torch.from_numpy(numpy.asarray(each) / 255) for each in form.decode(raw)]
    torch.testing.assert_close(decoded[0], own[0].permute(1, 2, 0).double(), rtol=0, atol=1.1 / 255)


@pytest.mark.parametrize("kind", tiny_pipelines.KINDS)
def test_grey_is_what_the_vae_makes_of_grey(pipes, kind):
    form = wing.PipelineLatents.of(pipes[kind])
    raw = torch.zeros(2, form.space.channels, 64 // form.space.factor, 64 // form.space.factor)
    grey = form.grey(raw)
    assert grey.shape == raw.shape and bool(grey.isfinite().all())
    torch.testing.assert_close(
        form.to_raw(form.from_raw(grey, form.as_form(raw, raw))), grey, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", [*BY_SIGMA, "DDIM", "DDPM", "TCD", "LCM"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_x0_is_what_the_scheduler_says_it_is(name, kind):
    scheduler = getattr(diffusers, f"{name}Scheduler")(
        prediction_type=kind, **({} if name in BY_SIGMA else {"clip_sample": False})
    )
    scheduler.set_timesteps(5)
    torch.manual_seed(0)
    for timestep in scheduler.timesteps[:3]:
        output, sample = torch.randn(2, 1, 4, 8, 8)
        p, q = clean_parts(scheduler, timestep)
        found = scheduler.step(output, timestep, sample)
        if name == "LCM":  # which does not show it; what it shows is nearly the same
            torch.testing.assert_close(p * sample + q * output, found.denoised, rtol=0.02, atol=0.05)
            continue
        own = getattr(found, "pred_original_sample", None)
        if own is None:
            pytest.skip("it does not say")
        torch.testing.assert_close(p * sample + q * output, own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in BY_BOTH if n not in ("DEISMultistep", "SASolver")])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow_prediction"])
def test_x0_is_what_solvers_convert_to(name, kind):
    flow = {"use_flow_sigmas": True} if kind == "flow_prediction" else {"use_karras_sigmas": True}
    scheduler = getattr(diffusers, f"{name}Scheduler")(prediction_type=kind, **flow)
    scheduler.set_timesteps(5)
    scheduler._init_step_index(scheduler.timesteps[0])
    output, sample = torch.randn(2, 1, 4, 8, 8)
    p, q = clean_parts(scheduler, scheduler.timesteps[0])
    own = scheduler.convert_model_output(output, sample=sample)
    torch.testing.assert_close(p * sample + q * output, own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", tiny_pipelines.KINDS)
def test_the_last_step_is_guided_as_guidance_is(pipes, kind):
    """Of two steps the first is not guided, and the second gives the predicted x0 itself."""
    pipe, reward = pipes[kind], light(kind)
    plain = latents(pipe, kind, 2)
    guided = latents(pipe, kind, 2, callback_on_step_end=wing.RewardGuidance(pipe, reward, 0.2))
    form = wing.PipelineLatents.of(pipe)
    space = form.space
    raw = form.to_raw(plain)
    moved = lclip.guided_x0(space.to_sampler(raw), reward, 0.2, space.to_raw)
    torch.testing.assert_close(form.to_raw(guided), space.to_raw(moved), rtol=1e-3, atol=1e-3)
    assert float(reward(form.to_raw(guided))) > float(reward(raw))
    assert "step" not in pipe.scheduler.__dict__


@pytest.mark.parametrize("name", [*BY_SIGMA, *(n for n in BY_TIME if "Parallel" not in n), *BY_BOTH])
def test_every_scheduler_can_be_guided(name):
    pipe = with_scheduler(tiny_pipelines.pipeline("SD"), name)
    reward, form = light("SD"), wing.PipelineLatents.of(pipe)
    values = []
    for strength in (0.0, 0.3):
        guide = wing.RewardGuidance(pipe, reward, strength)
        values.append(float(reward(form.to_raw(latents(pipe, "SD", 4, callback_on_step_end=guide)))))
    assert values[0] < values[1]
    assert values[0] == float(reward(form.to_raw(latents(pipe, "SD", 4))))


def test_an_interrupted_run_guides_no_other(pipes):
    pipe = pipes["SD"]
    guide = wing.RewardGuidance(pipe, light("SD"), 0.3)
    plain = latents(pipe, "SD", 4)

    def breaks(pipe, step, timestep, given):
        given = guide(pipe, step, timestep, given)
        if step == 1:
            raise KeyboardInterrupt
        return given

    with pytest.raises(KeyboardInterrupt):
        latents(pipe, "SD", 4, callback_on_step_end=breaks)
    assert torch.equal(latents(pipe, "SD", 4), plain)
    assert "step" not in pipe.scheduler.__dict__


def test_two_callbacks_go_together(pipes):
    pipe = pipes["SD"]
    once = wing.RewardGuidance(pipe, light("SD"), 0.1)
    twice = diffusers.callbacks.MultiPipelineCallbacks([once, wing.RewardGuidance(pipe, light("SD"), 0.1)])
    form, reward = wing.PipelineLatents.of(pipe), light("SD")
    one, two = (
        float(reward(form.to_raw(latents(pipe, "SD", 4, callback_on_step_end=c)))) for c in (once, twice)
    )
    assert two > one


def test_packed_latents_that_are_not_square(pipes):
    pipe, reward = pipes["FLUX"], light("FLUX")
    given = {**call("FLUX", 2), "height": 32, "width": 128, "output_type": "latent"}
    got = pipe(**given).images
    with pytest.raises(ValueError, match="no picture of"):
        wing.PipelineLatents.of(pipe, height=96, width=64).to_raw(got)
    form = wing.PipelineLatents.of(pipe, height=32, width=128)
    raw = form.to_raw(got)
    assert raw.shape == (1, 16, 4, 16)
    own = pipe._unpack_latents(got, 32, 128, 8)
    torch.testing.assert_close(raw, own / 0.3611 + 0.1159)
    assert torch.allclose(form.from_raw(raw, got), got, atol=1e-5)
    pipe(**given, callback_on_step_end=wing.RewardGuidance(pipe, reward, height=32, width=128))


@pytest.mark.parametrize("kind", ["FLUX", *FLUX2, "Qwen-Image"])
@pytest.mark.parametrize(("height", "width"), [(32, 128), (128, 32), (64, 64), (None, None)])
def test_the_shape_of_tokens_is_that_of_the_call(kind, height, width):
    """32 x 128 pixels are as many tokens as 64 x 64: a guard that took them for a square saw a scramble."""
    pipe, seen = tiny_pipelines.pipeline(kind), []
    size = {} if height is None else {"height": height, "width": width}
    form = wing.PipelineLatents.of(pipe)

    def shape(z):
        seen.append(tuple(z.shape[-2:]))
        return z.flatten(1).mean(1)

    made = pipe(
        **{**call(kind, 3), **size},
        output_type="latent",
        callback_on_step_end=wing.RewardGuidance(pipe, shape),
    ).images
    planes = form.to_raw(made)
    cells = planes.shape[-2:]
    assert seen and set(seen) == {tuple(cells)}
    if height is not None:
        assert cells[0] * width == cells[1] * height
        plain = wing.PipelineLatents(pipe, form.space, height, width)
        torch.testing.assert_close(planes, plain.to_raw(made))


def test_a_gate_asks_for_the_shape_of_tokens_and_does_not_guess_it(pipes, tiny_model, policy):
    pipe = pipes["FLUX"]
    model = wing.reader(tiny_model, pipe)
    got = pipe(**{**call("FLUX", 2), "height": 32, "width": 128}, output_type="latent").images
    for size in ({}, {"height": 32}, {"width": 128}):
        with pytest.raises(ValueError, match="give the gate the height and width"):
            wing.gate(pipe, got, policy, model, **size)
    assert wing.gate(pipe, got, policy, model, height=32, width=128).latents.shape == (1, 16, 4, 16)
    with pytest.raises(ValueError, match="the call that made them was not seen"):
        wing.PipelineLatents.of(tiny_pipelines.pipeline("FLUX")).to_raw(got)


def with_threshold(threshold):
    concept = lclip.Concept("red", ("a red circle",), ("a blue square",), threshold)
    return lclip.SafetyPolicy(name="test", concepts=(concept,))


@pytest.fixture
def policy():
    return with_threshold(0.5)


@pytest.fixture
def counted(pipes):
    """How many latents each pipeline's VAE decoded."""
    seen = []
    hooks = [
        pipe.vae.decoder.register_forward_hook(lambda m, given, out: seen.append(len(given[0])))
        for pipe in pipes.values()
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def between(judge, raw):
    """The policy with its threshold in the middle of these items."""
    values = sorted(judge.probabilities(raw)[:, 0].tolist())
    middle = (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2
    return with_threshold(middle)


@pytest.mark.parametrize("kind", ["SD3", "Z-Image"])
def test_only_what_is_safe_is_decoded(pipes, tiny_model, policy, counted, kind):
    pipe = pipes[kind]
    model = wing.reader(tiny_model, pipe)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(4)]
    got = latents(pipe, kind, 3, generator=generators, num_images_per_prompt=4)
    form = wing.PipelineLatents.of(pipe)
    policy = between(lclip.SafetyJudge(policy, model), form.to_raw(got))
    said = policy.judge(model, form.to_raw(got))
    gated = wing.gate(pipe, got, policy, model)
    assert [v.safe for v in gated.verdicts] == [v.safe for v in said] and sum(v.safe for v in said) == 2
    assert sum(counted) == 2
    for verdict, picture in zip(gated.verdicts, gated.images, strict=True):
        assert (picture is not None) == verdict.safe
    whole = latents(
        pipe,
        kind,
        3,
        generator=[g.manual_seed(i) for i, g in enumerate(generators)],
        num_images_per_prompt=4,
        output_type="pil",
    )
    for picture, own in zip(gated.images, whole, strict=True):
        assert picture is None or abs(_pixels(picture) - _pixels(own)).max() <= 2


def _pixels(picture):
    return torch.tensor(list(picture.convert("L").getdata()), dtype=torch.int)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_guard_lets_nothing_unsafe_out(pipes, tiny_model, policy, steps):
    pipe = pipes["SD3"]
    model, form = wing.reader(tiny_model, pipe), wing.PipelineLatents.of(pipe)

    def run(guard=None):
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(4)]
        other = {} if guard is None else {"callback_on_step_end": guard}
        return latents(pipe, "SD3", steps, generator=generators, num_images_per_prompt=4, **other)

    raw = form.to_raw(run())
    policy = between(lclip.SafetyJudge(policy, model), raw)
    unsafe = [v.index for v in policy.judge(model, raw) if not v.safe]
    assert len(unsafe) == 2
    guard = wing.SafetyGuard(pipe, policy, model, start=1.0)  # the end alone
    found = form.to_raw(run(guard))
    grey = pipe.vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode()[0]
    for index in range(4):
        expected = grey if index in unsafe else raw[index]
        torch.testing.assert_close(found[index], expected, rtol=1e-3, atol=1e-3)
    assert [v.safe for v in guard.verdicts] == [i not in unsafe for i in range(4)]


def test_what_a_guard_has_stopped_stays_grey_even_where_a_run_is_interrupted(pipes, tiny_model):
    """And the other items are bit for bit what they are without a guard."""
    pipe = pipes["SDXL"]
    form, seen = wing.PipelineLatents.of(pipe), []

    def look(end):
        def call(pipe, step, timestep, kwargs):
            seen.append((kwargs["latents"].clone(), list(guard.verdicts), dict(guard.stopped)))
            pipe._interrupt = step + 1 == end
            return kwargs

        return call

    def run(first, end=None, steps=6):
        seen.clear()
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(2)]
        other = {} if first is None else {"callback_on_step_end": two(first, look(end))}
        found = latents(pipe, "SDXL", steps, generator=generators, num_images_per_prompt=2, **other)
        return found, list(seen)

    def two(*callbacks):
        def call(pipe, step, timestep, kwargs):
            for callback in callbacks:
                kwargs = callback(pipe, step, timestep, kwargs)
            return kwargs

        return call

    def nothing(pipe, step, timestep, kwargs):
        return kwargs

    guard = wing.SafetyGuard(pipe, with_threshold(0.999), tiny_model, start=0.0)
    guard.judge = guard.early  # random weights make no picture, and so no scale of one
    _, plain = run(nothing)
    guard.early = only_first(guard)
    grey = form.from_raw(form.grey(torch.zeros(2, 4, 8, 8)), plain[0][0])
    found, states = run(guard, end=3)
    assert set(guard.stopped) == {0} and torch.equal(found[1], plain[2][0][1])
    assert [v.index for v in guard.verdicts] == [0] and not guard.verdicts[0].safe
    torch.testing.assert_close(found[0], grey[0])
    whole, states = run(guard)
    assert len(states) == 6 and states[0][1:] == ([], {})  # of this run alone
    for number, (state, verdicts, stopped) in enumerate(states):
        assert torch.equal(state[1], plain[number][0][1]) and bool(state.isfinite().all())
        assert (0 in stopped) == (number > 0)
        if 0 in stopped:
            torch.testing.assert_close(state[0], grey[0])
            assert not next(v for v in verdicts if v.index == 0).safe
    torch.testing.assert_close(whole[0], grey[0])
    assert [v.index for v in guard.verdicts] == [0, 1] and [v.safe for v in guard.verdicts] == [False, True]


def only_first(guard):
    """The guard's early judgement, of which the first item alone is unsafe."""
    early = guard.early

    def judge(z):
        strict = lclip.SafetyJudge(with_threshold(1e-6), early.models, check_scale=False)
        return [strict(z)[0], *early(z)[1:]]

    return judge


@pytest.mark.parametrize("on_unsafe", ["stop", "steer"])
def test_a_guard_that_is_used_again_forgets_what_it_said(pipes, tiny_model, policy, on_unsafe):
    pipe = pipes["SDXL"]
    guard = wing.SafetyGuard(pipe, policy, tiny_model, on_unsafe)
    latents(pipe, "SDXL", 2, callback_on_step_end=guard)
    assert len(guard.verdicts) == 1
    guard.callback_fn(pipe, 0, None, {"latents": torch.randn(1, 4, 8, 8)})
    assert guard.verdicts == []


def test_a_guard_ends_what_is_all_unsafe(pipes, tiny_model, policy):
    pipe = pipes["SDXL"]
    strict = with_threshold(1e-6)
    guard = wing.SafetyGuard(pipe, strict, tiny_model, start=0.0)
    asked = []
    hook = pipe.unet.register_forward_hook(lambda *_: asked.append(1))
    picture = pipe(**call("SDXL", 6), callback_on_step_end=guard, generator=torch.Generator().manual_seed(0))
    hook.remove()
    assert len(asked) == 2 and not guard.verdicts[0].safe
    grey = wing.PipelineLatents.of(pipe)
    expected = grey.decode(grey.grey(torch.zeros(1, 4, 8, 8)))[0]
    assert abs(_pixels(picture.images[0]) - _pixels(expected)).max() <= 1
    assert latents(pipe, "SDXL", 2).shape == (1, 4, 8, 8)  # the pipeline goes on living


def test_a_guard_steers_only_what_is_unsafe(pipes, tiny_model, policy):
    pipe = pipes["FLUX"]
    model, form = wing.reader(tiny_model, pipe), wing.PipelineLatents.of(pipe)
    plain = latents(pipe, "FLUX", 4)
    judge = lclip.SafetyJudge(policy, model, check_scale=False)
    p = float(judge.probabilities(form.to_raw(plain))[0, 0])
    for threshold, moves in ((min(0.999, p + 0.2), False), (max(0.001, p - 0.2), True)):
        one = with_threshold(threshold)
        guard = wing.SafetyGuard(pipe, one, model, "steer", strength=0.3, start=0.5)
        found = latents(pipe, "FLUX", 4, callback_on_step_end=guard)
        assert torch.equal(found, plain) != moves
        assert float(judge.probabilities(form.to_raw(found))[0, 0]) <= p + 1e-6


@pytest.mark.parametrize("kind", ["SDXL", "FLUX"])
def test_the_best_of_many_is_the_one_that_is_best_alone(pipes, tiny_model, counted, kind):
    pipe = pipes[kind]
    reward = lclip.TextReward(wing.reader(tiny_model, pipe), "a red circle")
    chosen = wing.best_of(pipe, reward, n=5, keep=2, seed=3, batch=2, **call(kind, 2))
    assert sum(counted) == 2 and len(chosen.images) == 2
    form = wing.PipelineLatents.of(pipe)
    seeds = [3, *(item_seed(3, number) for number in range(1, 5))]
    alone = {seed: form.to_raw(latents(pipe, kind, 2, seed)) for seed in seeds}
    scores = {seed: float(reward(raw)) for seed, raw in alone.items()}
    assert chosen.seeds == sorted(scores, key=scores.get, reverse=True)[:2]
    torch.testing.assert_close(chosen.latents[0], alone[chosen.seeds[0]][0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", tiny_pipelines.KINDS)
def test_a_search_begins_with_the_pipelines_own_picture(pipes, tiny_model, kind):
    pipe = pipes[kind]
    reward = by_words(tiny_model, pipe, kind)
    settings = lclip.ReNOSettings(iterations=3)
    chosen = wing.reno(pipe, reward, settings, seed=5, **call(kind, 2))
    raw = wing.PipelineLatents.of(pipe).to_raw(latents(pipe, kind, 2, seed=5))
    torch.testing.assert_close(chosen.run.initial_latents, raw, rtol=1e-4, atol=1e-4)
    assert float(chosen.rewards) > float(reward(raw))
    assert all(p.requires_grad for p in pipe.vae.parameters())


def test_the_searchs_gradient_is_that_of_finite_differences(pipes, tiny_model):
    from lclip.diffusers.searching import _generate, _noise

    pipe = pipes["FLUX"]
    form, reward = wing.PipelineLatents.of(pipe, height=64, width=64), light("FLUX")
    noise, state = _noise(form, call("FLUX", 2), 0)
    generate = _generate(form, call("FLUX", 2), state)
    noise = noise.requires_grad_()
    (gradient,) = torch.autograd.grad(reward(generate(noise)).sum(), noise)
    torch.manual_seed(1)
    way = torch.randn_like(noise)
    with torch.no_grad():
        ahead, behind = (reward(generate(noise + side * 1e-2 * way)) for side in (1, -1))
    assert float((ahead - behind) / 2e-2) == pytest.approx(float((gradient * way).sum()), rel=0.02)


def test_noise_that_a_scheduler_adds_is_the_same_in_every_render(tiny_model):
    pipe = with_scheduler(tiny_pipelines.pipeline("SDXL"), "EulerAncestralDiscrete")
    reward = lclip.TextReward(tiny_model, "a red circle")
    raw = wing.PipelineLatents.of(pipe).to_raw(latents(pipe, "SDXL", 3, seed=2))
    chosen = wing.reno(pipe, reward, lclip.ReNOSettings(iterations=2, lr=1e-9), seed=2, **call("SDXL", 3))
    torch.testing.assert_close(chosen.run.initial_latents, raw, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chosen.latents, raw, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", tiny_pipelines.KINDS)
def test_a_winner_is_what_it_is_alone_and_losers_are_not_computed(pipes, tiny_model, kind):
    pipe = pipes[kind]
    reward = by_words(tiny_model, pipe, kind)
    settings = lclip.RaceSettings(candidates=8, checks=(0.5,), keep=0.25, seed=1)
    rows = []
    model = pipe.transformer if hasattr(pipe, "transformer") else pipe.unet
    forward = model.forward

    def counted(*args, **named):
        shown = args[0] if args else named["hidden_states"]
        rows.append(len(shown))
        return forward(*args, **named)

    model.forward = counted
    try:
        chosen = wing.race(pipe, reward, settings, **call(kind, 4))
    finally:
        del model.forward
    twice = (
        1 if kind in ("FLUX", *FLUX2, "Qwen-Image") else 2
    )  # the others are asked with and without the prompt
    assert rows == [8 * twice] * 2 + [2 * twice] * 2
    assert chosen.run.passes == 8 * 2 + 2 * 2
    form = wing.PipelineLatents.of(pipe)
    alone = form.to_raw(latents(pipe, kind, 4, seed=chosen.seeds[0]))
    torch.testing.assert_close(chosen.latents, alone, rtol=1e-3, atol=1e-3)
    assert "step" not in pipe.scheduler.__dict__ and "forward" not in model.__dict__


@pytest.mark.parametrize("kind", ["SDXL", "FLUX"])
def test_a_race_by_drafts_samples_all_in_a_few_steps_and_the_best_in_all(pipes, tiny_model, kind):
    pipe = pipes[kind]
    reward, form = by_words(tiny_model, pipe, kind), wing.PipelineLatents.of(pipe)
    settings = lclip.RaceSettings(candidates=4, keep=0.5, finish=2, seed=1, method="draft", draft_steps=2)
    chosen = wing.race(pipe, reward, settings, **call(kind, 4))
    drafts = torch.cat([reward(form.to_raw(latents(pipe, kind, 2, seed=seed))) for seed in settings.seeds])
    whole = torch.cat([form.to_raw(latents(pipe, kind, 4, seed=seed)) for seed in chosen.seeds])
    torch.testing.assert_close(chosen.run.checks[0].rewards[0], drafts, rtol=1e-3, atol=1e-3)
    assert sorted(chosen.run.places) == drafts.topk(2).indices.sort().values.tolist()
    torch.testing.assert_close(chosen.latents, whole, rtol=1e-3, atol=1e-3)
    assert (chosen.run.passes, chosen.run.passes_all) == (4 * 2 + 2 * 4, 4 * 4)
    with pytest.raises(ValueError, match="draft_steps is 2, and the schedule has 2"):
        wing.race(pipe, reward, settings, **call(kind, 2))
    with pytest.raises(ValueError, match="give num_inference_steps in place of sigmas"):
        wing.race(pipe, reward, settings, **call(kind, 4, sigmas=[1.0, 0.5]))


def test_a_race_may_resample(tiny_model):
    pipe = with_scheduler(tiny_pipelines.pipeline("SDXL"), "EulerAncestralDiscrete")
    reward = lclip.TextReward(tiny_model, "a red circle")
    settings = lclip.RaceSettings(candidates=4, checks=(0.5,), method="resample", strength=20.0)
    chosen = wing.race(pipe, reward, settings, **call("SDXL", 4))
    assert chosen.latents.shape == (1, 4, 8, 8) and chosen.run.passes == 16
    first = chosen.run.checks[0]
    assert int(first.kept.sum()) < 4
    with_scheduler(pipe, "DPMSolverMultistep")
    with pytest.raises(ValueError, match="remembers earlier steps"):
        wing.race(pipe, reward, settings, **call("SDXL", 4))


def test_other_latents_are_refused_by_name(pipes, tiny_model, policy):
    reward = lclip.TextReward(tiny_model, "a red circle")
    for ask in (
        lambda: wing.RewardGuidance(pipes["FLUX"], reward),
        lambda: wing.best_of(pipes["FLUX"], reward, **call("FLUX", 1)),
        lambda: wing.reno(pipes["FLUX"], reward, **call("FLUX", 1)),
        lambda: wing.race(pipes["FLUX"], reward, **call("FLUX", 2)),
        lambda: wing.SafetyGuard(pipes["FLUX"], policy, tiny_model),
        lambda: wing.gate(pipes["FLUX"], torch.zeros(1, 16, 64), policy, tiny_model),
    ):
        with pytest.raises(ValueError, match="reads SDXL latents; the pipeline makes FLUX latents"):
            ask()


def test_bad_input_is_named(pipes, tiny_model):
    pipe, reward = pipes["SDXL"], lclip.TextReward(tiny_model, "a red circle")
    with pytest.raises(ValueError, match="decodes by itself"):
        wing.PipelineLatents.of(pipe).to_raw(pipe(**call("SDXL", 1)).images)
    with pytest.raises(ValueError, match="expected one text"):
        wing.best_of(pipe, reward, **call("SDXL", 1, prompt=["a", "b"]))
    with pytest.raises(ValueError, match="generator cannot be given here"):
        wing.race(pipe, reward, generator=torch.Generator(), **call("SDXL", 2))
    for bad in ({"batch": 0}, {"n": 2.0}, {"keep": True}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} is .*; expected (a whole number, )?1"):
            wing.best_of(pipe, reward, **bad, **call("SDXL", 1))
    with pytest.raises(ValueError, match="keep is 9"):
        wing.best_of(pipe, reward, n=8, keep=9, **call("SDXL", 1))
    with pytest.raises(ValueError, match="expected 'steer' or 'stop'"):
        wing.SafetyGuard(pipe, lclip.SafetyPolicy.preset("i2p"), tiny_model, "block")
    with pytest.raises(ValueError, match="starts at 0.9 and ends at 0.1"):
        wing.RewardGuidance(pipe, reward, start=0.9, end=0.1)
    other = tiny_pipelines.pipeline("SD")
    other.scheduler = diffusers.KDPM2DiscreteScheduler.from_config(other.scheduler.config)
    with pytest.raises(ValueError, match="KDPM2DiscreteScheduler predicts are not known"):
        latents(other, "SD", 3, callback_on_step_end=wing.RewardGuidance(other, light("SD")))
    other.vae.register_to_config(scaling_factor=0.5)
    with pytest.raises(ValueError, match='scaling factor 0.5.*name it: space="sdxl"'):
        wing.pipeline_space(other)
    assert wing.pipeline_space(other, "sdxl").name == "sdxl"
    other.vae = None
    with pytest.raises(ValueError, match="has no VAE"):
        wing.pipeline_space(other)


class Decodes(diffusers.StableDiffusionXLPipeline):
    """It shows pictures whatever it is asked for, or gives something else."""

    def __call__(self, prompt=None, output_type="pil", gives=None, **call):
        found = super().__call__(prompt, **call)
        return found if gives is None else gives


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (None, "the pipeline Decodes gave Images, not latents: it decodes by itself"),
        ({"frames": 1}, "the pipeline Decodes gave frames, and no images"),
        ((torch.zeros(1, 4, 8, 8),), "the pipeline Decodes gave tuple, and no images"),
        (SimpleNamespace(images=torch.zeros(1, 3, 64, 64)), r"gave a tensor of shape \[1, 3, 64, 64\]"),
    ],
)
def test_a_pipeline_that_gives_no_latents_is_named(pipes, tiny_model, gives, said):
    pipe = Decodes(**pipes["SDXL"].components)
    pipe.set_progress_bar_config(disable=True)
    reward = lclip.TextReward(tiny_model, "a red circle")
    for ask in (wing.best_of, wing.race, wing.reno):
        with pytest.raises(ValueError, match=said):
            ask(pipe, reward, **call("SDXL", 1, gives=gives))


def test_what_a_pipelines_call_does_not_take_is_said_before_it_is_asked(pipes, tiny_model):
    pipe, asked = tiny_pipelines.of_classes(), []
    pipe.transformer.register_forward_hook(lambda *_: asked.append(1))
    reward = lclip.TextReward(wing.reader(tiny_model, pipe), "a red circle")
    for ask in (wing.best_of, wing.race, wing.reno):
        with pytest.raises(ValueError, match="DiTPipeline takes no prompt, but class_labels"):
            ask(pipe, reward, prompt="a red circle")
    with pytest.raises(ValueError, match="FluxPipeline takes no heihgt, but prompt"):
        wing.best_of(pipes["FLUX"], light("FLUX"), prompt="a", heihgt=64)
    assert not asked


def test_a_guider_of_a_modular_pipeline_guides_the_first_step_too(pipes, tiny_model):
    if not hasattr(diffusers, "ModularPipeline"):
        pytest.skip("diffusers without modular pipelines")
    from diffusers.modular_pipelines import SequentialPipelineBlocks  # noqa: F401

    pipe = pipes["SDXL"]
    blocks = diffusers.modular_pipelines.StableDiffusionXLAutoBlocks()
    modular = blocks.init_pipeline()
    parts = {n: p for n, p in pipe.components.items() if n in modular._component_specs and p is not None}
    modular.update_components(**parts)
    modular.set_progress_bar_config(disable=True)
    reward = light("SDXL")

    def run(guider):
        modular.update_components(guider=guider)
        given = {"prompt": PROMPT, "height": 64, "width": 64, "num_inference_steps": 1}
        return modular(
            **given, generator=torch.Generator().manual_seed(0), output_type="latent", output="images"
        )

    plain = run(diffusers.ClassifierFreeGuidance(guidance_scale=5.0))
    guided = run(wing.RewardGuider(modular, reward, 0.2, guidance_scale=5.0))
    form = wing.PipelineLatents.of(pipe)
    moved = lclip.guided_x0(plain, reward, 0.2, form.space.to_raw)
    torch.testing.assert_close(guided, moved, rtol=1e-3, atol=1e-3)


def test_the_page_of_examples_runs(tmp_path, monkeypatch):
    """As it stands, with another pipeline, another model and the CPU."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip_torch, whose vocabulary is read, is not installed")
    torch.manual_seed(0)
    towers = {
        f"{side}_{what}": n
        for side in ("vision", "text")
        for what, n in (("width", 64), ("layers", 1), ("heads", 1))
    }
    sizes = {"embed_dim": 32, "channels": 4, "patch_size": 2, "grid": 4, "latent_space": "sdxl"}
    config = lclip.LatentCLIPConfig(**sizes, **towers, context_length=77, vocab_size=49408)
    tiny_model = lclip.LatentCLIP(config).requires_grad_(False).eval()
    tiny_pipelines.pipeline("SDXL").save_pretrained(tmp_path / "pipe")
    lclip.save_checkpoint(tiny_model, tmp_path / "model.safetensors")
    page = (Path(__file__).parents[2] / "docs" / "diffusers.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    code = "\n".join(blocks).replace('"cuda"', '"cpu"').replace("float16", "float32")
    code = code.replace("stabilityai/sdxl-turbo", (tmp_path / "pipe").as_posix())
    code = code.replace("latent-clip-b-8.safetensors", (tmp_path / "model.safetensors").as_posix())
    code = code.replace("iterations=20", "iterations=2")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "docs/diffusers.md", "exec"), names)  # noqa: S102
    for name in ("best", "reno", "won"):
        assert (tmp_path / f"{name}.png").is_file()
    assert len(names["gated"].images) == 4 and names["won"].run.saved > 0


@pytest.fixture(scope="module")
def preference(tmp_path_factory):
    """A preference model in the published layout, and the pipeline that its parts are of."""
    folder = tmp_path_factory.mktemp("preference")
    pipe = tiny_pipelines.pipeline("SDXL", seed=3)
    pipe.save_pretrained(folder / "base")
    for part in ("unet", "text_encoder", "text_encoder_2"):
        getattr(pipe, part).save_pretrained(folder / "lrm" / part)
    torch.manual_seed(4)
    head = {"visual_projection": {"weight": torch.randn(16, 8 + 16 + 16)}, "logit_scale": torch.tensor(2.0)}
    torch.save(head, folder / "lrm" / "state_dict.pt")
    return folder, pipe, head


class TestPreferenceReward:
    """What `RewardKind` asks, of a reward that reads a UNet in place of a Latent-CLIP."""

    @pytest.fixture
    def reward(self, preference):
        folder, _, _ = preference
        return wing.PreferenceReward(folder / "lrm", folder / "base", PROMPT)

    @pytest.fixture
    def z(self):
        return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5)) * 6.5

    def test_the_gradient_equals_finite_differences(self, reward, z):
        x = z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(reward(x).sum(), x)
        way = torch.randn(z.shape, generator=torch.Generator().manual_seed(6))
        with torch.no_grad():
            expected = (reward(z + 0.05 * way).sum() - reward(z - 0.05 * way).sum()) / 0.1
        torch.testing.assert_close((gradient * way).sum(), expected, rtol=0.02, atol=1e-5)

    def test_a_broken_item_is_nan_and_nothing_is_written_into(self, reward, z):
        good = reward(z)
        z[1, 2, 3, 4] = torch.nan
        before = z._version
        value = reward(z)
        assert z._version == before and value.isnan().tolist() == [False, True, False]
        torch.testing.assert_close(value[[0, 2]], good[[0, 2]])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_and_expanded_latents_are_read_as_they_are(self, reward, z, dtype):
        half = z.to(dtype)
        torch.testing.assert_close(reward(half), reward(half.float()), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(reward(half[:1].expand(2, -1, -1, -1)), reward(half[[0, 0]]))

    def test_a_weight_multiplies_and_must_be_finite(self, preference, reward, z):
        folder, _, _ = preference
        double = wing.PreferenceReward(folder / "lrm", folder / "base", PROMPT, weight=2.0)
        torch.testing.assert_close(double(z), 2 * reward(z))
        with pytest.raises(ValueError, match="finite"):
            wing.PreferenceReward(folder / "lrm", folder / "base", PROMPT, weight=float("nan"))


def test_a_preference_models_score_is_that_of_its_parts(preference):
    """The published recipe by the pipeline's own text encoding and a whole pass of its UNet."""
    folder, pipe, head = preference
    reward = wing.PreferenceReward(folder / "lrm", folder / "base", PROMPT)
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 6.5
    texts, empty, pooled, pooled_empty = pipe.encode_prompt(
        PROMPT, do_classifier_free_guidance=True, negative_prompt=""
    )
    seen = {}
    blocks = pipe.unet.down_blocks
    last = {"first": blocks[0].resnets[-1], "second": blocks[1].attentions[-1], "middle": pipe.unet.mid_block}
    hooks = [
        m.register_forward_hook(
            lambda _, i, out, n=n: seen.update({n: out[0] if isinstance(out, tuple) else out})
        )
        for n, m in last.items()
    ]

    def means(hidden, pool):
        sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)
        given = {"text_embeds": pool.repeat(2, 1), "time_ids": sizes}
        with torch.no_grad():
            pipe.unet(z * 0.13025, 0, encoder_hidden_states=hidden.repeat(2, 1, 1), added_cond_kwargs=given)
        return {name: value.mean((2, 3)) for name, value in seen.items()}

    without, with_text = means(empty, pooled_empty), means(texts, pooled)
    for hook in hooks:
        hook.remove()
    middle = without["middle"] + 7.5 * (with_text["middle"] - without["middle"])
    features = (
        torch.cat([with_text["first"], with_text["second"], middle], 1)
        @ head["visual_projection"]["weight"].T
    )
    features = features / features.norm(dim=1, keepdim=True)
    expected = 0.01 * torch.tensor(2.0).exp() * (features @ (pooled / pooled.norm()).T)[:, 0]
    torch.testing.assert_close(reward(z), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reward(z[1:]), expected[1:], rtol=1e-4, atol=1e-5)


def test_a_preference_model_guides_and_watches(preference, pipes, tiny_model):
    folder, _, _ = preference
    reward = wing.PreferenceReward(folder / "lrm", folder / "base", PROMPT)
    chosen = wing.reno(pipes["SDXL"], reward, lclip.ReNOSettings(iterations=3, lr=20.0), **call("SDXL", 1))
    assert float(chosen.rewards) > float(chosen.run.initial_reward)
    text = lclip.TextReward(tiny_model, "a red circle")
    watched = wing.reno(pipes["SDXL"], text, lclip.ReNOSettings(iterations=2), reward, **call("SDXL", 1))
    assert watched.run.history[0].held_out.shape == (1,)
    with pytest.raises(ValueError, match="4 channels|reads"):
        reward(torch.randn(1, 16, 8, 8))


def test_a_preference_model_that_is_none(preference, tmp_path):
    folder, _, head = preference
    with pytest.raises(FileNotFoundError, match="needs .*unet, which is not there"):
        wing.PreferenceReward(tmp_path, folder / "base", PROMPT)
    import shutil

    shutil.copytree(folder / "lrm", tmp_path / "lrm")
    torch.save(
        {"visual_projection": {"weight": torch.randn(16, 16)}, "logit_scale": head["logit_scale"]},
        tmp_path / "lrm" / "state_dict.pt",
    )
    with pytest.raises(ValueError, match=r"shape \[16, 16\]; expected \[D, 40\]"):
        wing.PreferenceReward(tmp_path / "lrm", folder / "base", PROMPT)
    torch.save({"other": 1}, tmp_path / "lrm" / "state_dict.pt")
    with pytest.raises(ValueError, match="has no visual_projection"):
        wing.PreferenceReward(tmp_path / "lrm", folder / "base", PROMPT)
