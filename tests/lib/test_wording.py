"""Reports in the words of who reads them: every line goes through the function that is handed in."""

import torch

import lclip
from lclip.choosing.balance import Balance
from lclip.rewards.taste import Taste, TasteFigures
from lclip.safety.calibration import Calibration, ConceptCalibration


def shouted(words: str, **values: object) -> str:
    return f"<{words.format(**values)}>"


BALANCE = Balance(
    ("a", "b"), (0.5, 0.5), seen=(0, 0, -1), chosen=(0,), rest=(1, 2), wanted=(0, 1, 1), notes=("few",)
)
CALIBRATION = Calibration(
    lclip.SafetyPolicy(lclip.parse_concepts("skull: a skull // a star")),
    0.05,
    (ConceptCalibration("skull", 0.5, 0.9, 0.05, 0.8, ((0.0, 0.0), (1.0, 1.0))),),
    safe_count=60,
    unsafe_count=50,
    safe_blocked=3,
    unsafe_blocked=40,
    warnings=("few",),
)
TASTE = Taste(
    torch.zeros(4),
    0.0,
    model="abc",
    latent_space="sdxl",
    size_rule="fit",
    figures=TasteFigures(9, 8, 7, 6, 0.1),
)


def test_every_line_of_a_report_is_said_by_who_was_asked():
    for report in (BALANCE.report, CALIBRATION.text, TASTE.text, Taste(torch.zeros(4), 0.0, "head").text):
        lines = report(shouted).splitlines()
        assert lines and all(line.startswith("<") and line.endswith(">") for line in lines), lines


def test_english_is_what_is_said_where_nobody_was_asked():
    for report in (BALANCE.report, CALIBRATION.text, TASTE.text):
        assert "<" not in report()
    assert "60 safe and 50 unsafe" in CALIBRATION.text()
    assert BALANCE.report().splitlines()[1] == "Caution: few"
    assert BALANCE.report().splitlines()[2] == "a: 2 seen, 1 chosen, 1 wanted (50%)"
    assert TASTE.text().splitlines()[0] == "taste: learnt from 9 liked and 8 disliked latents"
