"""What a tokenizer gives back: every byte, a normalised text, or less."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Lossless:
    """What decoding gives back of a text that was encoded.

    Args:
        level: `bytes`, every byte of any text; `normalised`, the text as a named rule changes it; `lossy`, less.
        why: the rule or the loss, in words.
    """

    level: Literal["bytes", "normalised", "lossy"]
    why: str = ""

    def __bool__(self) -> bool:
        return self.level == "bytes"

    def __str__(self) -> str:
        return self.level + (f": {self.why}" if self.why else "")


def judge(
    texts: Iterable[str],
    back: Callable[[str], bytes],
    normalise: Callable[[str], str],
    rule: str,
    missing: tuple[int, ...],
) -> Lossless:
    """Try it.

    Args:
        texts: hostile ones.
        back: encodes and decodes.
        normalise: what is done to a text before it is split.
        rule: the name of that.
        missing: bytes that no id stands for, where ids stand for bytes.
    """
    if missing:
        few = ", ".join(f"0x{b:02x}" for b in missing[:6]) + (", …" if len(missing) > 6 else "")
        return Lossless("lossy", f"{len(missing)} of the 256 bytes have no piece and are left out ({few})")
    changed = False
    for text in texts:
        got = back(text)
        if got == text.encode():
            continue
        if got != normalise(text).encode():
            return Lossless(
                "lossy", f"for example, {_shown(text)} comes back as {_shown(got.decode(errors='replace'))}"
            )
        changed = True
    return Lossless("normalised", rule) if changed else Lossless("bytes")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 24 else text[:23] + "…")
