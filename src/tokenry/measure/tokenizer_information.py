"""Information in tokens: entropies of a tokenizer's ids, use of its vocabulary, and what universal coders leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenry.core.card import Card
from tokenry.core.fields import between, natural, positive, setting
from tokenry.measure.base import Metric, Numbers, Pool, Weights
from tokenry.measure.statistics.compression import CODERS, packed
from tokenry.measure.statistics.entropy import Windows, correction, entropy, renyi
from tokenry.measure.statistics.stream import Codec, Stream, codec_of, stream_of


@dataclass(frozen=True, kw_only=True)
class TokenizerInformation(Metric):
    """Measure a tokenizer as a compressor and as a channel.

    What it does
        Over the ids t of a corpus, in bits: H1 = -sum p log2 p; Hk = H(tk | t1..tk-1) by counts of runs inside
        documents, for k up to `orders`; each also corrected after Miller and Madow, for ids in random order, and
        per byte of text. Of a vocabulary of K entries that spell text: capacity log2 K, its use H1 / log2 K, and the
        Rényi efficiency H_a / log2 K at a = `renyi`. Bytes per token; bits per byte at fixed width, and after gzip
        and lzma of the bytes and of the ids, each document by itself.
    Where it acts
        On documents and any tokenizer: a name, a fast tokenizer, or an object with `encode` and `vocabulary`.
    Shapes
        a document, as text or as Stream -> name to number; `over` a corpus also intervals by document bootstrap.
    Guarantees
        Exact for known sources: H1 = log2 K and use 1 for ids that occur equally often, H2 = 0 for a cycle, and
        H1 + ... + Hk is the entropy of runs of k over the same runs. The tokenizer is not changed.
    Raises
        InvalidValue: a tokenizer that is none, or no document.
        UnknownModel: no tokenizer of this name.
    Deviations
        Counts of a finite corpus make Hk too small from k = 3 on, and more so the fewer documents there are; the
        corrected value and the one for ids in random order, whose true Hk is H1, show by how much.
    Relations
        Entropies per token cannot be compared between tokenizers, those per byte can. The Rényi efficiency is
        descriptive: cases are published in which it does not predict quality.
    """

    card = Card(
        title="An Information-Theoretic Perspective on LLM Tokenizers",
        year=2026,
        url="https://arxiv.org/abs/2601.09039",
        summary="entropies, vocabulary use and compressibility of the tokens of any tokenizer over any corpus",
        trial={"tokenizer": "bytes", "orders": 3},
        claims=(
            "byte pairs trained on 100 times the text, which also fills more of their 8,192 entries, give other code a "
            "higher H1 and lower counted H4 and H5",
        ),
        deviations=(
            "entropies also corrected for sample size and beside those of shuffled ids, since plug-in values fall "
            "with the sample alone",
            "documents are compressed one by one, so that intervals by document can be given; a long corpus in one "
            "piece compresses further",
            "training with a compressor in the loop is not part of it",
        ),
    )

    tokenizer: Any = setting("smollm2", doc="a name, a fast tokenizer, or an object with encode and vocabulary")
    orders: int = positive(5, doc="tokens of the longest runs that are counted; from 2 on structure shows")
    renyi: float = between(0.0, 100.0, default=2.5, doc="order of the Rényi efficiency")
    seed: int = natural(0, doc="of the shuffled control")
    shown = (
        "bytes_per_token", "vocabulary_used", "capacity_use", "renyi_use", "h1_bits_per_byte", "h2_bits_per_byte",
        "gzip_ids_bits_per_byte", "lzma_ids_bits_per_byte",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.tokenizer, str):
            object.__setattr__(self, "tokenizer", codec_of(self.tokenizer))

    @property
    def codec(self) -> Codec:
        """The tokenizer, loaded where it was given by name."""
        return codec_of(self.tokenizer)

    def measure(self, sample: str | Stream | Any) -> Numbers:
        return self.pool([sample])(np.ones(1))

    def streams(self, samples: Sequence[str | Stream | Any]) -> list[Stream]:
        """Documents as the tokenizer cuts them."""
        codec = self.codec
        texts = (s if isinstance(s, str | Stream) else s.text for s in samples)
        return [t if isinstance(t, Stream) else stream_of(codec, t) for t in texts]

    def pool(self, samples: Sequence[str | Stream | Any]) -> Pool:
        streams, vocabulary = self.streams(samples), self.codec.vocabulary
        entries = len(vocabulary) - len(vocabulary.marks)
        documents = [stream.ids for stream in streams]
        single = Windows(documents, 1)
        real, mixed = Windows(documents, self.orders), Windows(_shuffled(documents, self.seed), self.orders)
        sizes = _sizes(streams, len(vocabulary))

        def numbers(weights: Weights) -> Numbers:
            total = {name: float(weights @ values) for name, values in sizes.items()}
            per_byte = total["tokens"] / total["bytes"] if total["bytes"] else math.nan
            counts = np.bincount(single.types[0], weights[single.document]) if len(single.document) else np.zeros(1)
            found = {
                "bytes": total["bytes"],
                "tokens": total["tokens"],
                "bytes_per_token": 1 / per_byte if per_byte else math.nan,
                "whole_documents": total["whole"] / float(weights.sum()),
                "missing_bytes": float(len(vocabulary.missing_bytes)),
                "vocabulary": float(entries),
                "vocabulary_used": float((counts > 0).sum()) / entries,
                "fixed_width_bits_per_byte": math.log2(entries) * per_byte,
            }
            found |= _capacity(counts, entries, self.renyi) | _orders(real, mixed, self.orders, weights, per_byte)
            # Documents shorter than a run have tokens too.
            found["h1"], found["h1_corrected"] = entropy(counts), entropy(counts) + correction(counts)
            found["h1_bits_per_byte"] = found["h1"] * per_byte
            for coder in CODERS:
                raw, coded = total[coder], total[f"{coder}_ids"]
                found[f"{coder}_bits_per_byte"] = 8 * raw / total["bytes"] if total["bytes"] else math.nan
                found[f"{coder}_ids_bits_per_byte"] = 8 * coded / total["bytes"] if total["bytes"] else math.nan
            return found

        return numbers


def _capacity(counts: np.ndarray, entries: int, order: float) -> Numbers:
    capacity = math.log2(entries) if entries > 1 else math.nan
    there = bool(counts.sum())
    return {
        "capacity": capacity,
        "capacity_use": entropy(counts) / capacity if there else math.nan,
        "renyi_use": renyi(counts, order) / capacity if there else math.nan,
    }


def _orders(real: Windows, mixed: Windows, orders: int, weights: Weights, per_byte: float) -> Numbers:
    """Entropies of a token given 0 to orders - 1 before it: plug-in, corrected, shuffled, per byte."""
    found: Numbers = {}
    if orders > 1:
        found["bigram_entropy"] = real.block(2, weights)
    for k in range(1, orders + 1):
        found[f"h{k}"] = real.conditional(k, weights)
        found[f"h{k}_corrected"] = real.conditional(k, weights, corrected=True)
        found[f"h{k}_shuffled"] = mixed.conditional(k, weights)
        found[f"h{k}_bits_per_byte"] = found[f"h{k}"] * per_byte
    return found


def _sizes(streams: Sequence[Stream], entries: int) -> dict[str, np.ndarray]:
    """What adds up over documents."""
    found = {
        "bytes": [len(s.data) for s in streams],
        "tokens": [len(s.ids) for s in streams],
        "whole": [s.whole for s in streams],
    }
    for coder, size in CODERS.items():
        found[coder] = [size(s.data) for s in streams]
        found[f"{coder}_ids"] = [size(packed(s.ids, entries)) for s in streams]
    return {name: np.array(values, dtype=float) for name, values in found.items()}


def _shuffled(documents: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """The same ids in random order, in documents of the same lengths."""
    ends = np.cumsum([len(ids) for ids in documents])
    return np.split(np.random.default_rng(seed).permutation(np.concatenate([*documents])), ends[:-1])
