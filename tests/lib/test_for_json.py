"""Figures that are none are null in JSON, wherever they stand: one function for all that is written."""

import json
import math

import pytest

from lclip.bulk.tables import Block, lines
from lclip.statistics import Interval, for_json


def test_a_number_that_is_none_is_null_at_any_depth():
    told = {"a": math.nan, "b": [1.5, -math.inf, (math.inf, 2)], "c": {"d": math.nan, "e": "nan"}, "f": None}
    assert for_json(told) == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": None, "e": "nan"}, "f": None}
    assert for_json(True) is True and for_json(7) == 7 and for_json(0.25) == 0.25
    assert for_json(Interval(0.5, math.nan, math.nan, 3).figures) == [0.5, None, None]
    json.dumps(for_json(told), allow_nan=False)
    assert math.isnan(told["a"]) and told["b"][1] == -math.inf  # what is given stays as it is


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_tables_in_lines_know_it(value):
    block = Block({"score": [value, 0.123456789]})
    first, second = lines(block, {"score": "number"}, ".jsonl").splitlines()
    assert json.loads(first) == {"score": None} and abs(json.loads(second)["score"] - 0.123456789) < 1e-5
