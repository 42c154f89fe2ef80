"""What was read, left out or stood out: counted in one place for tables and trainings."""

import json
import logging

from lclip.bulk.asking import Block
from lclip.bulk.parts import tally_of
from lclip.data.tally import Tally


def rows(*rows):
    return Block({c: [row.get(c) for row in rows] for c in ("file", "item", "safe", "note", "error")})


def test_rows_are_counted_by_reason_with_the_first_of_each():
    block = rows(
        {"file": "a.npy", "item": "0", "safe": True},
        {"file": "b.npy", "item": "", "safe": False, "error": "damaged"},
        {"file": "c.npy", "item": "1", "safe": False, "note": "small"},
        {"file": "d.npy", "item": "1", "safe": True, "note": "large"},
    )
    tally = block.tally()
    assert tally.items == 4 and tally.counts == {"failed": 1, "blocked": 2, "noted": 2}
    assert tally.first == {"failed": "b.npy: damaged", "noted": "c.npy 1: small"}
    total = Tally()
    total.add(rows({"file": "0.npy", "item": "7", "safe": True, "note": "odd"}).tally())
    total.add(tally)
    assert total.items == 5 and total.counts["noted"] == 3 and total.first["noted"] == "0.npy 7: odd"


def test_it_is_kept_as_json_and_read_back():
    tally = Tally(3)
    tally.skip("damaged", "x", "why")
    assert Tally.of(json.loads(json.dumps(tally.plain()))) == tally


def test_a_folder_of_results_from_before_is_read():
    old = {"items": 7, "failed": 1, "blocked": 3, "noted": 0, "first_error": "a: b", "first_note": ""}
    tally = tally_of(old)
    assert (tally.items, tally.counts, tally.first) == (7, {"failed": 1, "blocked": 3}, {"failed": "a: b"})


def test_the_first_mistakes_of_each_kind_are_logged_and_all_are_counted(caplog):
    tally = Tally()
    with caplog.at_level(logging.WARNING, "latent-clip"):
        for number in range(7):
            tally.skip("without a picture", f"key{number}", "detail")
        tally.skip("several latents", "other")
    assert tally.text() == "1 several latents, 7 without a picture"
    assert [record.getMessage() for record in caplog.records] == [
        *(f"skipped: without a picture: key{number} (detail)" for number in range(4)),
        "skipped: without a picture: key4 (detail); further ones are only counted",
        "skipped: several latents: other",
    ]


def test_muted_it_counts_and_says_nothing(caplog):
    tally = Tally(muted=True)
    tally.skip("damaged", "x")
    tally.muted = False
    tally.skip("damaged", "y")
    assert tally.counts == {"damaged": 1} and tally.first == {"damaged": "y"} and len(caplog.records) == 1
