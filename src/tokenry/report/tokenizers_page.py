"""Draw what was measured of tokenizers, one beside the other, as one HTML page that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenry.report.figures import number
from tokenry.report.template import environment

ABOUT = {
    "compression": "Bytes that a token stands for, and bits for each byte of text after coders of ids.",
    "fertility": "Tokens for each word of the corpus, and the share of words that are cut.",
    "fairness": "Tokens of the same passages in several languages: how uneven they are, and how many times those of "
    "the first language.",
    "entropy": "Bits of a token, alone and given those before it. Per token they cannot be compared between "
    "tokenizers, per byte they can; from three tokens on counts are too few.",
    "capacity": "How evenly and how much of the vocabulary is used.",
    "numbers": "How numbers of one to nine digits are cut.",
    "morphology": "Whether pieces of words are the parts they are made of. Words that are not spelled are left out.",
    "robustness": "Tokens that one other character changes, and how many times as many tokens capitals cost.",
    "coverage": "Bytes without a piece, and shares of texts that come back whole.",
    "hostile": "Hostile texts that come back whole, those refused, and the time of a text of four times the length; 4 "
    "grows with the length and 16 with its square.",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number with its bar, in hundredths of the row's largest."""

    text: str
    sure: str = ""
    width: float | None = None
    low: float | None = None
    high: float | None = None


def tokenizers_page(document: Mapping[str, Any]) -> str:
    """The page of what `Sheet.to_dict` gives."""
    tokenizers = document["tokenizers"]
    families = [
        {"name": family, "about": ABOUT.get(family, ""), "rows": _rows([t["families"][family] for t in tokenizers])}
        for family in (tokenizers[0]["families"] if tokenizers else ())
    ]
    names = [t["name"] for t in tokenizers]
    template = environment().get_template("tokenizers.html.j2")
    return template.render(names=names, facts=document["facts"], families=families)


def _rows(found: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for quantity in dict.fromkeys(q for m in found for q in m["values"]):
        values = [m["values"].get(quantity, math.nan) for m in found]
        known = [value for value in values if math.isfinite(value)]
        most, whole = max(map(abs, known), default=0.0), all(value == int(value) for value in known)
        cells = [_cell(v, m["intervals"].get(quantity), most, whole) for v, m in zip(values, found, strict=True)]
        rows.append({"name": quantity.replace("_", " "), "cells": cells})
    return rows


def _cell(value: float, interval: tuple[float, float] | None, most: float, whole: bool) -> Cell:
    if not math.isfinite(value) or not most:
        return Cell(number(value, whole))
    if interval is None or interval[0] == interval[1]:
        return Cell(number(value, whole), width=_part(value, most))
    low, high = interval
    return Cell(
        number(value, whole),
        f"{number(low)} to {number(high)}",
        _part(value, most),
        _part(low, most),
        _part(high, most),
    )


def _part(value: float, most: float) -> float:
    return 100 * min(max(value / most, 0.0), 1.0)
