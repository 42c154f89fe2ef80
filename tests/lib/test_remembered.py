"""What patches keep between renders is put back, whoever holds it; what is not theirs is left alone."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import types
from collections import deque
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
PACK = "latent_clip_pack_remembered"


@pytest.fixture(scope="module")
def remembered():
    """The module under test, which needs no host, loaded under a name of its own."""
    for name, folder in (
        (PACK, ROOT),
        (f"{PACK}.nodes", ROOT / "nodes"),
        (f"{PACK}.nodes.host", ROOT / "nodes/host"),
    ):
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        if folder != ROOT:
            spec.loader.exec_module(module)
    return importlib.import_module(f"{PACK}.nodes.host.remembered")


@pytest.fixture(scope="module")
def anew(remembered):
    """What goes by that memory."""
    return importlib.import_module(f"{PACK}.nodes.host.anew")


CACHE = """
from functools import partial

_KEPT = {}
COUNT = 0

class Cache:
    shared = None
    def __init__(self):
        self.last = None
        self.steps = 0
    def __call__(self, x):
        self.steps += 1
        if self.last is None or self.steps > 2:
            self.last = 2 * x
        return self.last

class Slotted:
    __slots__ = ("last",)
    def __init__(self):
        self.last = None
    def __call__(self, x):
        if self.last is None:
            self.last = 2 * x
        return self.last

class OnClass:
    def __call__(self, x):
        if type(self).__dict__.get("kept") is None:
            type(self).kept = 2 * x
        return type(self).kept

def in_closure():
    last = None
    def step(x):
        nonlocal last
        if last is None:
            last = 2 * x
        return last
    return step

def in_list():
    kept = []
    def step(x):
        kept.append(2 * x) if not kept else None
        return kept[0]
    return step

def in_module(x):
    global COUNT
    COUNT += 1
    return _KEPT.setdefault("last", 2 * x) * (1 if COUNT == 1 else 3)

def in_default(x, kept={}):
    return kept.setdefault("last", 2 * x)

def in_buffer():
    import torch
    total = torch.zeros(2)
    def step(x):
        total.add_(x)
        return total.clone()
    return step

def in_attribute(x):
    kept = vars(in_attribute)
    return kept.setdefault("last", 2 * x)
"""


@pytest.fixture
def pack():
    """A node pack of somebody else, with caches of many kinds."""
    module = types.ModuleType("somebodys_pack")
    sys.modules[module.__name__] = module
    exec(compile(CACHE, "somebodys_pack", "exec"), vars(module))  # noqa: S102  a module without a file
    yield module
    del sys.modules[module.__name__]


def patches(pack):
    """By kind of place: a step that remembers the first thing that it is given."""
    held = pack.Cache()
    return {
        "attribute": held,
        "slot": pack.Slotted(),
        "class": pack.OnClass(),
        "closure": pack.in_closure(),
        "list in a closure": pack.in_list(),
        "module": pack.in_module,
        "default": pack.in_default,
        "buffer": pack.in_buffer(),
        "function": pack.in_attribute,
        "method": pack.Cache().__call__,
        "partial": partial(pack.Cache.__call__, pack.Cache()),
    }


KINDS = (
    "attribute", "slot", "class", "closure", "list in a closure", "module", "default", "buffer", "function",
    "method", "partial",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nest", [lambda f: {"wrappers": {"a": {None: [f]}}}, lambda f: {"patches": (f,)}])
def test_a_step_begins_anew_whoever_holds_its_state(anew, pack, kind, nest):
    step = patches(pack)[kind]
    each = anew.RendersAnew([nest(step)], nn.Identity())
    given = [torch.full((2,), float(n)) for n in (1, 5, 7)]
    found = [each(lambda x=x: step(x)) for x in given]
    for x, result in zip(given, found, strict=True):
        expected = x if kind == "buffer" else 2 * x
        torch.testing.assert_close(result, expected, atol=0, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_found_is_left(anew, pack, kind):
    """The stock sampler that runs next finds what it would have found without the search."""
    step = patches(pack)[kind]
    each = anew.RendersAnew([[step]], nn.Identity())
    for n in (1.0, 5.0):
        each(lambda n=n: step(torch.full((2,), n)))
    each.close()
    torch.testing.assert_close(step(torch.ones(2)), torch.ones(2) * (1 if kind == "buffer" else 2))


def test_a_plain_dictionary_among_the_options(anew, pack):
    state = {}

    def step(x):
        return state.setdefault("last", 2 * x)

    step.__module__ = pack.__name__
    each = anew.RendersAnew([{"transformer_options": {"cache": state}}, step], nn.Identity())
    for n in (1.0, 5.0):
        assert each(lambda n=n: step(torch.full((2,), n)))[0] == 2 * n


def test_what_was_hung_on_the_network(anew, pack):
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def step(x):
        if not hasattr(network[1], "tea"):
            network[1].tea = {"last": 2 * x}
        return network[1].tea["last"]

    step.__module__ = pack.__name__
    each = anew.RendersAnew([[step]], network)
    for n in (1.0, 5.0):
        assert each(lambda n=n: step(torch.full((2,), n)))[0] == 2 * n
    each.close()
    assert not hasattr(network[1], "tea")


def test_a_patch_that_keeps_nothing_of_a_render_is_left_alone(anew, pack):
    calls = deque()

    def counted(x):
        calls.append(None)
        return 2 * x

    counted.__module__ = pack.__name__
    each = anew.RendersAnew([[counted]], nn.Identity())
    for n in (1.0, 5.0, 7.0):
        assert each(lambda n=n: counted(torch.full((2,), n)))[0] == 2 * n
    assert len(calls) == 4  # once more than asked: to see whether it matters


def test_a_patch_without_any_state_costs_nothing(anew, pack):
    renders = []

    def plain(x):
        return 2 * x

    plain.__module__ = pack.__name__
    each = anew.RendersAnew([[plain]], nn.Identity())

    def render():
        renders.append(None)
        return plain(torch.ones(2))

    for _ in range(3):
        each(render)
    assert len(renders) == 3


@pytest.mark.parametrize("hide", ["iterator", "generator"])
def test_what_cannot_be_put_back_is_refused_by_name(anew, pack, hide):
    counter = itertools.count() if hide == "iterator" else (n for n in range(100))

    def drifting(x):
        return x + next(counter)

    drifting.__module__ = pack.__name__
    each = anew.RendersAnew([[drifting]], nn.Identity())
    with pytest.raises(ValueError, match="drifting of somebodys_pack"):
        each(lambda: drifting(torch.ones(2)))


def test_random_sources_are_wound_back(anew, pack):
    source = torch.Generator().manual_seed(3)

    def noisy(x):
        return x + torch.randn(2, generator=source)

    noisy.__module__ = pack.__name__
    each = anew.RendersAnew([[noisy]], nn.Identity())
    wanted = torch.ones(2) + torch.randn(2, generator=torch.Generator().manual_seed(3))
    for _ in range(3):
        assert torch.equal(each(lambda: noisy(torch.ones(2))), wanted)


def test_weights_and_networks_are_not_touched(anew, pack):
    layer = nn.Linear(2, 2)
    shared = types.SimpleNamespace(layer=layer)

    def step(x):
        layer.weight.data.add_(0)
        shared.last = layer(x)
        return shared.last

    step.__module__ = pack.__name__
    each = anew.RendersAnew([[step]], layer)
    before = layer.weight
    for _ in range(2):
        each(lambda: step(torch.ones(2)))
    assert layer.weight is before


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_of_a_race_begins_anew_whoever_holds_the_state(anew, pack, kind):
    step = patches(pack)[kind]
    each = anew.PassesAnew([[step]], nn.Identity())
    for rows in (3, 2, 1):  # of other candidates each time
        x = torch.full((2,), float(rows))
        found = each(lambda x=x: step(x))
        torch.testing.assert_close(found, x if kind == "buffer" else 2 * x, atol=0, rtol=0)
    assert each.needed
    each.close()
    torch.testing.assert_close(step(torch.ones(2)), torch.ones(2) * (1 if kind == "buffer" else 2))


def test_a_race_leaves_a_patch_that_only_counts_and_refuses_one_that_hides(anew, pack):
    calls = deque()

    def counted(x):
        calls.append(None)
        return 2 * x

    counted.__module__ = pack.__name__
    each = anew.PassesAnew([[counted]], nn.Identity())
    for n in (1.0, 5.0):
        each(lambda n=n: counted(torch.full((2,), n)))
    each.close()
    assert len(calls) == 2 and not each.needed
    numbers = (n for n in range(100))

    def drifting(x):
        return x + next(numbers)

    drifting.__module__ = pack.__name__
    with pytest.raises(ValueError, match="drifting of somebodys_pack"):
        anew.PassesAnew([[drifting]], nn.Identity())


@pytest.mark.parametrize("held", [False, True])
def test_a_cache_that_holds_an_earlier_sampling_is_said_when_a_race_begins(anew, pack, caplog, held):
    """It may be right or wrong by its author; what it held was there before the race, and stays."""
    state = {"last": torch.zeros(2), "weights": torch.ones(2)} if held else {}

    def step(x):
        state["last"] = 2 * x
        return state["last"]

    step.__module__ = pack.__name__
    each, before = anew.PassesAnew([[step]], nn.Identity()), dict(state)
    for n in (1.0, 5.0):
        each(lambda n=n: step(torch.full((2,), n)))
    each.close()
    assert state == before
    assert [r.message.count("step of somebodys_pack") for r in caplog.records] == [1] * held
