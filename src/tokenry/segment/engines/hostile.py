"""Texts that break tokenizers: on these an engine must give the ids of the original before it is used."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from tokenry.core.vocabulary import Vocabulary

TEXTS = (
    "",
    " ",
    "\n",
    "\0",
    "a\0b",
    "Hello, world!  It's 3.14 o'clock; isn't IT'S 12345678?",
    " leading, trailing and  double   spaces  ",
    "tabs\tand\ttabs\t\t \t mixed \t",
    "CRLF\r\nlines\r\n\r\n\rlone\n\n\n  indented\n\tx\n \n  \n",
    "in 1975  1 \n\n2\n 3   44  555 ½ ² ٣ ४",
    "naïve café — “quotes” … ﬁ ﬂ ™ № ℌ ｆｕｌｌ İstanbul ß ẞ ǅ ŉ",
    "combining: e\u0301 a\u030a\u0323 \u0301\u0301alone q\u0307\u0323 \u1e0b\u0323 का कि 한 \u1112\u1161\u11ab",
    "👨‍👩‍👧‍👦 🏳️‍🌈 🤷🏽‍♀️ 🇫🇮🇸🇪 1️⃣ 😀😀😀 \U0001f468\u200d",
    "zero\u200bwidth\u200c\u200d\ufeff\u2060 soft\u00adhyphen nbsp\u00a0x\u2003\u3000wide\u2028line\u2029para\u0085nel",
    "\u202eright to left\u202c עברית العربية فارسی\u064b ہے",
    "日本語のテキスト、中文文本。한국어 ไทยไม่มีช่องว่าง ខ្មែរ မြန်မာ བོད",
    "\ufffd \ufffe \uffff \U0010ffff \ue000 \U000e0001 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠮷 \U0001f9ff",
    "".join(map(chr, range(0x20))) + "\x7f\x80\x9f",
    "".join(map(chr, range(0x20, 0x7F))),
    "".join(map(chr, range(0xA0, 0x250))),
    "▁ ▁▁under▁score Ġ Ċ ##ing <0x41> <unk> [UNK] [CLS] </s> <s>",
    "<|endoftext|><|endoftext|> a<|endoftext|>b <|endoftext <|im_start|>user\n",
    "def f(x):\n    return {'a': [1, 2, 3]}  # comment\n\n\nclass A(B):\n\t'''doc'''\n" * 2,
    "https://example.org/a_b-c?d=%20e&f=[1]#g user@mail.example /usr/lib64/x.so.1 C:\\dir\\file.txt",
    '<html><p class="x">&amp;</p></html> \\n \\u0041 $x_{i}^2$ ``` ```` ~~~ ---- ==== ****',
    "supercalifragilisticexpialidocious antidisestablishmentarianism Donaudampfschifffahrtsgesellschaft evlerimizden",
    "a" * 300,
    "ab" * 200,
    " " * 300,
    "\n" * 300,
    "^" * 300,
    "\u0301" * 40 + "中" * 300 + "!?" * 100 + "0" * 50,
)
"""Each is text that a file may hold."""

_EDGES = (" ", "\n", "\r", "\t", "\f", "a", "S", "1", "!", "'", "é", "\u0301", "中")
_PIECES = 4000


def thorough(marks: Iterable[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """More, for libraries that are to give the same ids: kinds of characters beside each other, and whole pieces."""
    triples = ["".join(triple) for triple in product(_EDGES, repeat=3)]
    spelled = [piece for piece in vocabulary if piece]
    pieces = [piece.decode("utf-8", "ignore") for piece in spelled[:: max(1, len(spelled) // _PIECES)]]
    return (*sample(marks), "".join(triples), "b".join(triples), "".join(pieces), " ".join(pieces), "\n\n".join(pieces))


def sample(marks: Iterable[str]) -> tuple[str, ...]:
    """The texts, and some with the marks of a vocabulary in every position."""
    some = list(marks)[:20]
    return (
        *TEXTS,
        *some,
        "".join(some),
        *(f"x{mark}y {mark} {mark}\n{mark[:-1]} {mark.upper()} {mark}{mark}" for mark in some),
    )
