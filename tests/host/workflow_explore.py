"""The plan of a map between two seeds and two prompts, from which a cell is chosen."""

from __future__ import annotations

from workflow_canvas import Canvas
from workflow_parts import (
    GAP,
    JUDGE_HEIGHT,
    TEXT_HEIGHT,
    WIDE,
    World,
    around,
    decoded,
    load,
    note,
)

HIGHEST, LOWEST = -100, 1084  # of the groups around the tallest node
COLOURS = "#3f5f8a", "#5a7d3a", "#7a5a8a"  # of groups


def explore(canvas: Canvas, world: World) -> None:
    """Two lanes leave the loaders in another order than sockets stand in, and pass the second prompt."""
    loaded, left = load(canvas, world, above=False), WIDE + GAP
    e = left + WIDE + 110
    under = loaded.end if world.mini else loaded.end + 290 + JUDGE_HEIGHT  # who reads stands lower
    low = 500 if world.mini else 640
    words = {"value": world.says("a blue ring on a white ground", "a photo of a blue owl in the snow")}
    box = canvas.node("PrimitiveStringMultiline", (0, low), (WIDE, TEXT_HEIGHT), "Prompt of corner 2", words)
    first = canvas.node(
        "CLIPTextEncode", (left, 60), (WIDE, 150), "Prompt of corner 1",
        {"text": world.says("a red star on a white ground", "a photo of a red fox in the snow")},
        clip=loaded.clip,
    )["CONDITIONING"]  # fmt: skip
    clip = loaded.clip if world.mini else loaded.clip.via((left - 22, 220), (left - 20, 470))
    wires = {"clip": clip, "text": box["STRING"]}
    second = canvas.node("CLIPTextEncode", (left, 500), (WIDE, 120), "Corner 2, encoded", **wires)
    size = {"width": world.size, "height": world.size, "batch_size": 1}
    empty = canvas.node(world.empty, (left, 282), (WIDE, 118), None, size)["LATENT"]
    inner, outer = around(under, 0)[:3], around(loaded.end, 1)
    rails = LOWEST - 14, LOWEST - 34
    judge = loaded.latent_clip.via(
        *inner, (-9, under + 52), (-9, LOWEST - 70), (20, rails[1]), (e - 80, rails[1]), (e - 56, 300)
    )
    vae = loaded.vae.via(*outer, (-20, LOWEST - 60), (10, rails[0]), (e - 64, rails[0]))
    texts = world.says("a red star\na blue ring\na red ring", "a red fox\na blue owl\na blue fox")
    found = canvas.node(
        "LatentCLIP_Explore", (e, 0), (470, 1035), None,
        {**dict(world.sampling), "seed": 7, "other_seeds": "8", "column": 2, "row": 2,
         "texts": texts, "cells": 6 if world.mini else 4},
        model=loaded.model, positive=first, negative=first, latent_image=empty.via((e - 80, 150)),
        latent_clip=judge, vae=vae.via((e - 40, 300)), corner_2=second["CONDITIONING"].via((e - 70, 440)),
    )  # fmt: skip
    b = e + 470 + 70
    lane = vae.via((b - 44, rails[0]), (b - 30, 110))
    end = decoded(canvas, world, (b, 0), 640, "The chosen cell", found["latent"], lane, "explore")
    y = low + TEXT_HEIGHT + 70
    note(canvas, (0, y), (WIDE, LOWEST - 115 - y), "What lies between?",
         "Two seeds, two prompts: every cell is made of noise and prompt in between.")  # fmt: skip
    if world.needs:
        note(canvas, (left, 700), (WIDE, 270), "What you need", world.needs)
    note(canvas, (b, 712), (WIDE, 140), "Choose",
         "Click a cell on the map and run again: nothing else is sampled.")  # fmt: skip
    note(canvas, (b, 924), (WIDE, 136), "Heat", "Choose a text under *show*: bright is where it fits.")
    bounds = (-70, e - 95), (e - 85, b - 50), (b - 45, end + 25)
    for title, ends, colour in zip(("1 Corners", "2 Explore", "3 Look"), bounds, COLOURS, strict=True):
        canvas.group(title, ends[0], HIGHEST, ends[1], LOWEST, colour)
