"""Numbers of a noise search that have a switch: off, whatever they say changes nothing."""

from __future__ import annotations

import pytest
from reno_bench import STATIC, Bench
from test_registration import inputs_of

SWITCHES = {  # switch -> its number, what that number changes at once, and a search that shows it
    "custom_lr": ("lr", {"lr": 0.01}, {"iterations": 3}),
    "stop_on_plateau": ("patience", {"patience": 1}, {"iterations": 12, "method": "best_of_n", "seed": 11}),
    "stop_at_target": ("target", {"target": -1000.0}, {"iterations": 3}),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_number_counts_where_its_switch_is_on_and_only_there(host, graph, sdxl_clip, switch):
    bench = Bench(host, graph, sdxl_clip)
    _, number, search = SWITCHES[switch]
    for name, widgets in {"plain": {}, "off": number, "on": {**number, switch: True}}.items():
        bench.dump(bench.reno(bench.empty(), **{**search, **widgets})[0], name)
    bench.run()
    assert (bench.samples("off") == bench.samples("plain")).all()
    assert (bench.samples("on") != bench.samples("plain")).any()


@pytest.mark.parametrize("node", ["LatentCLIP_ReNO", "LatentCLIP_ReNOSampler"])
def test_a_switch_is_off_and_stands_before_its_number_and_the_texts_name_each_other(host, node):
    inputs = inputs_of(host.object_info[node])
    names = [name for name, _ in inputs]
    specs = dict(inputs)
    for switch, (number, _, _) in SWITCHES.items():
        assert names.index(number) == names.index(switch) + 1
        assert specs[switch][0] == "BOOLEAN" and specs[switch][1]["default"] is False
        assert number in specs[switch][1]["tooltip"] and switch in specs[number][1]["tooltip"]
        assert STATIC[switch] is False
