"""Reports are in the language of the browser that runs the workflow."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from scoring_bench import read, score, smooth, write_latents

ENGLISH, CHINESE = "cosine, higher is better", "余弦，越高越好"


def tell(host, told) -> int:
    """What the server answers to a browser that says this of itself."""
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{host.port}/latent-clip/locale", body)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def report_for(host, graph, client: str, text: str) -> str:
    write_latents(host, "spoken", smooth((2, 4, 8, 8)))
    report = graph.add("Probe_Values", value=score(graph, text, read(graph, "spoken"))[3])
    (found,) = host.run(graph, client=client).require_ok().values(report)
    return found


def test_each_browser_has_its_own_language_and_others_have_english(host, new_graph):
    assert tell(host, {"client": "one", "language": "zh"}) == 204
    assert tell(host, {"client": "two", "language": "en"}) == 204
    for client, words in (("one", CHINESE), ("two", ENGLISH), ("nobody", ENGLISH), ("one", CHINESE)):
        assert words in report_for(host, new_graph(), client, f"a red circle {client}{words[:2]}")
    assert tell(host, {"client": "one", "language": "en"}) == 204
    assert ENGLISH in report_for(host, new_graph(), "one", "a red circle again")


@pytest.mark.parametrize(
    "told",
    [b"{", b"", [], "zh", {}, {"client": "x"}, {"client": 3, "language": "zh"},
     {"client": "x", "language": "../zh"}, {"client": "x", "language": ["zh"]}],
)  # fmt: skip
def test_what_is_no_language_is_refused(host, told):
    assert tell(host, told) == 400
