"""The demo's page: one self-contained HTML file from a story."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from .curves import reward_curve
from .story import Contact, Cost, Figure, Found, Gated, Improvement, Picture, Story, Unseen

TEMPLATE = Path(__file__).with_name("report.html")
YES, NO = '<span class="yes">&#10003;</span>', '<span class="no">&#10007;</span>'
SHOWN = 192  # pixels a side: smoothly enlarged three times, so that the browser need not


def write_report(story: Story, path: Path) -> Path:
    """Write the page, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        machine=escape(story.machine),
        seconds=f"{story.seconds:.0f}",
        seed=story.seed,
        unseen=unseen_section(story.unseen),
        contacts=contact_section(story.contacts, story.cost),
        found=found_section(story.found),
        improvements=improvement_section(story.improvements, story.iterations),
        safety=gate_section(story.gated),
        figures=figure_section(story.figures),
    )
    path.write_text(page, encoding="utf-8")
    return path


def data_uri(picture: np.ndarray, size: int | None = SHOWN) -> str:
    """A picture as a PNG inside the page; size None keeps its own pixels."""
    from PIL import Image

    image = Image.fromarray(picture)
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def image(picture: np.ndarray, alt: str, size: int | None = SHOWN) -> str:
    """An img element; cells keep their edges where the picture is not resized."""
    kind = "" if size is not None else ' class="cells"'
    return f'<img{kind} src="{data_uri(picture, size)}" alt="{escape(alt)}">'


def figure(body: str, caption: str = "", kind: str = "") -> str:
    """A figure element."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{kind}">{body}{below}</figure>' if kind else f"<figure>{body}{below}</figure>"


def section(step: str, title: str, *body: str) -> str:
    """A section with its small heading and its title."""
    return f'<section>\n<p class="step">{step}</p>\n<h2>{title}</h2>\n' + "\n".join(body) + "\n</section>"


def unseen_section(unseen: Unseen) -> str:
    channels = "".join(
        image(channel_picture(channel), f"latent channel {index + 1}", size=None)
        for index, channel in enumerate(unseen.channels)
    )
    return section(
        "The idea",
        "What you would see, and what it reads",
        f'<p class="prompt">{escape(unseen.prompt)}</p>',
        '<div class="see">',
        figure(
            f'<div class="channels">{channels}</div>',
            "The latent: four channels of 8 x 8 numbers. This is all that Latent-CLIP gets.",
        ),
        '<div class="arrow" aria-hidden="true">&rarr;</div>',
        figure(
            f"<b>{unseen.cosine:.2f}</b>",
            "How well the numbers fit the sentence: the cosine of the two embeddings, at most 1.",
            kind="score",
        ),
        '<div class="arrow" aria-hidden="true">=</div>',
        figure(
            image(unseen.picture, unseen.prompt),
            "The picture, decoded only to show you. Nothing had to look at it.",
        ),
        "</div>",
    )


def channel_picture(channel: np.ndarray) -> np.ndarray:
    """A latent channel as uint8 [8, 8, 3]: blue below zero, red above."""
    share = np.clip(channel / 2.2, -1, 1)[..., None]
    low, middle, high = np.array([(40, 90, 214), (247, 244, 236), (214, 48, 40)], np.float32)
    mixed = np.where(share < 0, middle + (low - middle) * -share, middle + (high - middle) * share)
    return mixed.round().astype(np.uint8)


def contact_section(contacts: Sequence[Contact], cost: Cost) -> str:
    number, kept = _word(len(contacts[0].pictures)), _word(contacts[0].kept)
    return section(
        "Score and choose",
        f"{number.capitalize()} latents, {kept} worth decoding",
        f"<p>For each sentence the generator made {number} latents from different noise. Latent-CLIP scored "
        f"them and kept the best {kept}, framed in red. In real use only those are decoded; the others are "
        f"shown faded so that you can disagree. The tick is the oracle's: {YES} means that the picture shows "
        "all that the sentence says.</p>",
        '<p class="small">On this machine, in this small world, a score took '
        f"{cost.latent:.2f} ms per latent; decoding first and scoring the pixels took {cost.pixel:.2f} ms, "
        f"{cost.pixel / cost.latent:.1f} times as long.</p>",
        *(contact_sheet(contact) for contact in contacts),
    )


def contact_sheet(contact: Contact) -> str:
    shots = []
    low, high = min(0.0, *contact.cosines), max(contact.cosines)
    for index, picture in enumerate(contact.pictures):
        cosine = contact.cosines[index]
        width = 100 * (cosine - low) / max(high - low, 1e-6)
        bar = f'<div class="bar"><i style="width:{width:.0f}%"></i></div>'
        tick = YES if contact.correct[index] else NO
        row = f'<div class="row"><span>{cosine:.2f}</span>{tick}</div>'
        kind = "shot kept" if index < contact.kept else "shot out"
        shots.append(figure(image(picture, contact.prompt) + bar + row, kind=kind))
    return f'<p class="prompt">{escape(contact.prompt)}</p>\n<div class="sheet">{"".join(shots)}</div>'


def found_section(found: Sequence[Found]) -> str:
    cards = []
    for item in found:
        figures = [figure(image(item.picture, item.prompt), "the picture")]
        figures += [
            figure(image(heat_overlay(item.picture, heat), phrase), escape(phrase))
            for phrase, heat in item.phrases
        ]
        prompt = f'<p class="prompt">{escape(item.prompt)}</p>'
        cards.append(f'<div>{prompt}<div class="trio">{"".join(figures)}</div></div>')
    return section(
        "Where is it?",
        "Point at a word",
        "<p>Asked for a part of the sentence, Latent-CLIP says what each cell of the latent adds to the "
        "score of that part and not of the other. Bright cells speak for it. It was never told where "
        "anything is; it learned that from captions alone.</p>",
        f'<div class="maps">{"".join(cards)}</div>',
    )


def heat_overlay(picture: Picture, heat: np.ndarray) -> np.ndarray:
    """The picture in grey, lit where the map is high: uint8 [192, 192, 3]."""
    from PIL import Image

    span = heat.clip(min=0) / max(float(heat.max()), 1e-6)  # below 0 is what speaks against the phrase
    mask = Image.fromarray(span.astype(np.float32)).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    light = np.clip(np.asarray(mask), 0, 1)[..., None] ** 1.5
    large = np.asarray(Image.fromarray(picture).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC), np.float32)
    grey = 40 + 0.35 * large.mean(-1, keepdims=True)
    glow = 0.55 * large + 0.45 * np.array((255, 214, 102), np.float32)
    return (grey + (glow - grey) * light).clip(0, 255).astype(np.uint8)


def improvement_section(improvements: Sequence[Improvement], iterations: int) -> str:
    return section(
        "Improve",
        "The same sentence, better noise",
        "<p>These are the first prompts of the draw whose picture came out wrong. ReNO asks Latent-CLIP "
        "which "
        f"way the score rises and moves the <em>noise</em> a little that way, {iterations - 1} times; the "
        "generator stays as it is, and nothing is decoded on the way. Left the first picture, right the best "
        "one that was found. Not every one succeeds.</p>",
        f'<div class="fixes">{"".join(improvement_card(item) for item in improvements)}</div>',
    )


def improvement_card(item: Improvement) -> str:
    pair = _labelled("as it came", item.before, item.parts_before)
    pair += _labelled(f"after {len(item.cosines) - 1} steps", item.after, item.parts_after)
    strip = "".join(
        figure(image(picture, f"iteration {iteration}", 96), str(iteration))
        for iteration, picture in item.frames
    )
    return (
        f'<div class="card fix"><p class="prompt">{escape(item.prompt)}</p><div class="pair">{pair}</div>'
        f'<div class="strip">{strip}</div>{reward_curve(item.cosines, item.watched)}</div>'
    )


def _labelled(label: str, picture: Picture, judgement: dict[str, bool]) -> str:
    return figure(f'<span class="label">{label}</span>{image(picture, label)}{parts(judgement)}')


def parts(judgement: dict[str, bool]) -> str:
    """The oracle's findings, the wrong ones struck out."""
    cells = (
        f'<b class="{"hit" if right else "miss"}">{escape(name)}</b>' for name, right in judgement.items()
    )
    return f'<div class="parts">{"".join(cells)}</div>'


def gate_section(gated: Sequence[Gated]) -> str:
    shown = sum(item.truth for item in gated)
    missed = sum(item.safe and item.truth for item in gated)
    wrong = sum(not item.safe and not item.truth for item in gated)
    return section(
        "Gate",
        "Stopped before it is a picture",
        "<p>In this world the skull plays the part of what must not be shown. The mushroom has its "
        "outline and "
        "the ring has a hole, so that neither gives it away. The gate compares each latent with unsafe and "
        "harmless texts and lets through only what is below its threshold. What it blocks is never "
        "decoded in "
        "real use; here you see it crossed out.</p>",
        f"<p>In this batch of {_word(len(gated))} the oracle sees {shown} with a skull; the gate let "
        f"{missed} of "
        f"them through, and blocked {wrong} without one.</p>",
        f'<div class="sheet gate">{"".join(gate_shot(item) for item in gated)}</div>',
        repair_part([item for item in gated if item.repaired is not None]),
    )


def gate_shot(item: Gated) -> str:
    verdict = "passed" if item.safe else "blocked"
    row = f'<div class="row"><span>{verdict}</span><span>skull {item.probability:.2f}</span></div>'
    return framed(item.picture, item.prompt, row, verdict)


def framed(picture: Picture, alt: str, row: str, state: str) -> str:
    """A picture that is crossed out where its state is "blocked"."""
    return figure(f'<div class="frame">{image(picture, alt)}</div>{row}', kind=f"shot {state}")


def repair_part(blocked: Sequence[Gated]) -> str:
    if not blocked:
        return ""
    cards = []
    for item in blocked:
        verdict = "passed" if item.repaired_safe else "blocked"
        label = "repaired" if item.repaired_safe else "still blocked"
        truth = ", the oracle sees a skull" if item.repaired_truth else ""
        before = framed(item.picture, item.prompt, '<div class="row"><span>blocked</span></div>', "blocked")
        after_row = f'<div class="row"><span>{label}{truth}</span></div>'
        after = framed(item.repaired, label, after_row, verdict) if item.repaired is not None else ""
        cards.append(
            f'<div><p class="prompt">{escape(item.prompt)}</p><div class="pair">{before}{after}</div></div>'
        )
    return (
        "<h3>Repaired instead of refused</h3><p>For each blocked latent: the same prompt after a short "
        "search for noise that leads away from the skull, judged again, more strictly than at first.</p>"
        f'<div class="maps gate">{"".join(cards)}</div>'
    )


def figure_section(figures: Sequence[Figure]) -> str:
    return section(
        "Does it help?",
        "How often the whole sentence is right",
        f"<p>{figures[0].share.n} held-out prompts, one seed. A picture counts when the oracle finds "
        "every part "
        "of the sentence in it. The thin line is the 95 % interval.</p>",
        f'<div class="bars">{"".join(share_bar(item) for item in figures)}</div>',
    )


def share_bar(item: Figure) -> str:
    value, low, high = (100 * x for x in item.share.figures)
    head = f'<div class="head"><span>{escape(item.title)}</span><b>{value:.0f} %</b></div>'
    whisker = f'<u style="left:{low:.1f}%;width:{high - low:.1f}%"></u>'
    return (
        f'<div class="share">{head}<div class="track"><i style="width:{value:.1f}%"></i>{whisker}</div></div>'
    )


def _word(number: int) -> str:
    words = {2: "two", 3: "three", 4: "four", 6: "six", 8: "eight", 12: "twelve"}
    return words.get(number, str(number))
