"""FrugalPrompt and its attributions: shares that add up, rollouts as in a plain loop, words by their pieces."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from tests.compress.compress_rows import batch
from tests.models.test_encoder_layer import encoder, ids
from tokenry.compress import frugal_prompt
from tokenry.compress.frugal_prompt import FrugalPrompt
from tokenry.compress.kept.text import text_of
from tokenry.compress.parts import attribution as decompx
from tokenry.compress.parts import attribution as globenc
from tokenry.compress.parts.attribution import DecompX, GlobEnc, contributions, decomposed
from tokenry.compress.random import RandomUnits
from tokenry.compress.scores.lexrank import JUMP, lexrank
from tokenry.compress.scores.vectors import text_vectors
from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.data import documents, read
from tokenry.models.attention import anatomy
from tokenry.models.files.load import Encoder
from tokenry.models.files.tiny import tiny

FAMILIES = ("bert", "roberta", "xlm-roberta", "electra")
TEXT = (
    "The old lighthouse keeper repaired the broken lamp before the storm. Nobody in the town had seen such waves. "
    "He wrote unbelievable numbers into his book."
)


def reading(model, n: int = 11) -> anatomy.Reading:
    return anatomy.read(model, ids(n))


def wrapped(model) -> Encoder:
    return Encoder(model, cast(Any, None), 64)


def everything(n: int) -> torch.Tensor:
    return torch.ones(n, dtype=torch.bool)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_shares_add_up_after_every_layer(family):
    steps = reading(encoder(family)).steps
    for n, shares in enumerate(decomposed(steps)):
        assert shares.shape == (11, 11, 32)
        torch.testing.assert_close(shares.sum(1), steps[n].out, atol=1e-4, rtol=0)
    assert n == 2


@torch.no_grad()
def test_shares_add_up_on_a_real_encoder(minilm):
    found = anatomy.read(minilm.model, torch.tensor(minilm.tokenizer(TEXT)["input_ids"]))
    for steps, shares in zip(found.steps, decomposed(found.steps), strict=True):
        assert float((shares.sum(1) - steps.out).abs().max()) <= 1e-4
    own = minilm.model(**minilm.tokenizer(TEXT, return_tensors="pt")).last_hidden_state[0]
    assert float((found.steps[-1].out - own).abs().max()) <= 1e-4
    assert float(DecompX().weigh(found).sum()) == pytest.approx(1.0, abs=1e-4)


@torch.no_grad()
def test_a_layer_of_shares_equals_plain_loops():
    """Equations of one layer, share by share, with every bias split as |b · share| / sum."""
    found = reading(encoder("bert"), 4)
    first, second = decomposed(found.steps[:2])
    torch.testing.assert_close(first.sum(1), found.steps[0].out, atol=1e-4, rtol=0)
    steps = found.steps[1]
    layer, t = steps.layer, 4

    def split(shares, bias):
        weight = [abs(float(bias @ s)) for s in shares]
        return [s + bias * w / sum(weight) for s, w in zip(shares, weight, strict=True)]

    def norm(module, shares, state):
        spread = math.sqrt(float(((state - state.mean()) ** 2).mean()) + module.eps)
        return split([(s - s.mean()) / spread * module.weight for s in shares], module.bias)

    for i in range(t):
        shares = []
        for k in range(t):
            heads = [
                sum(steps.probs[h, i, j] * (layer.values.weight[8 * h : 8 * h + 8] @ first[j, k]) for j in range(t))
                for h in range(4)
            ]
            shares.append(first[i, k] + layer.output.weight @ torch.cat(heads))
        shares = split(shares, layer.output.weight @ layer.values.bias + layer.output.bias)
        shares = norm(layer.norm, shares, steps.summed[i])
        z = steps.rising[i]
        inner = [s * functional.gelu(z) / z for s in split([layer.up.weight @ s for s in shares], layer.up.bias)]
        down = split([layer.down.weight @ s for s in inner], layer.down.bias)
        shares = norm(layer.last_norm, [a + b for a, b in zip(shares, down, strict=True)], steps.total[i])
        torch.testing.assert_close(second[i], torch.stack(shares), atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_weights_are_shares_of_the_mean_state():
    found = reading(encoder("bert"))
    weights = DecompX().weigh(found)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-4)
    *_, shares = decomposed(found.steps)
    whole = found.steps[-1].out.mean(0)
    assert float(weights[3]) == pytest.approx(float(shares[:, 3].mean(0) @ whole / (whole @ whole)), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_add_up_to_the_logit_of_a_classifier(family):
    """Through the pooler or dense layer, its activation, and the classifier."""
    model = encoder(family, AutoModelForSequenceClassification)
    weights = DecompX().attribute(wrapped(model), ids(9), everything(9))
    with torch.no_grad():
        logits = model(ids(9)[None]).logits[0]
    assert float(weights.sum()) == pytest.approx(float(logits.max()), abs=1e-3)


@torch.no_grad()
def test_globenc_equals_a_plain_loop():
    model = encoder("bert")
    found = reading(model, 6)
    product = torch.eye(6)
    for steps in found.steps:
        layer = steps.layer
        matrix = torch.zeros(6, 6)
        for i in range(6):
            deviation = [
                math.sqrt(float(((s - s.mean()) ** 2).mean()) + 1e-12) for s in (steps.summed[i], steps.total[i])
            ]
            for j in range(6):
                pair = steps.x[i].clone() if i == j else torch.zeros(32)
                for h in range(4):
                    one = slice(8 * h, 8 * h + 8)
                    value = layer.values.weight[one] @ steps.x[j]
                    pair += steps.probs[h, i, j] * (layer.output.weight[:, one] @ value)
                pair = (pair - pair.mean()) / deviation[0] * layer.norm.weight
                pair = (pair - pair.mean()) / deviation[1] * layer.last_norm.weight
                matrix[i, j] = math.sqrt(float(pair @ pair))
        torch.testing.assert_close(contributions(steps), matrix, atol=1e-4, rtol=1e-4)
        product = matrix @ product
    expected = product[0] / product[0].max()
    torch.testing.assert_close(GlobEnc().weigh(found), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", [DecompX(), GlobEnc()])
def test_slices_and_padding_do_not_matter(method, monkeypatch):
    model = wrapped(encoder("bert"))
    alone = method.attribute(model, ids(9), everything(9))
    assert alone.shape == (9,)
    monkeypatch.setattr(decompx, "ELEMENTS", 1)
    monkeypatch.setattr(globenc, "ELEMENTS", 3 * 9 * 32)
    torch.testing.assert_close(method.attribute(model, ids(9), everything(9)), alone, atol=1e-5, rtol=1e-4)
    for left, right in ((3, 0), (0, 4), (2, 2)):
        mask = functional.pad(everything(9), (left, right))
        weights = method.attribute(model, functional.pad(ids(9), (left, right)), mask)
        assert torch.equal(weights[mask], method.attribute(model, ids(9), everything(9)))
        assert not bool(weights[~mask].any())
    assert method.attribute(model, ids(4), ~everything(4)).tolist() == [0.0] * 4
    assert method.attribute(model, ids(1), everything(1)).tolist() == [pytest.approx(1.0, abs=1e-4)]


@pytest.mark.parametrize("method", [DecompX(), GlobEnc()])
def test_an_unknown_build_is_refused(method):
    with pytest.raises(UnsupportedModel, match="LlamaForCausalLM: layer 0 must"):
        method.attribute(wrapped(tiny("llama")), ids(5), everything(5))


def test_lexrank_equals_a_dense_power_iteration():
    sentences = [["a", "b", "c"], ["b", "c", "d", "d"], ["e"], [], ["a", "e", "b"]]
    terms = sorted({t for s in sentences for t in s})
    idf = {t: math.log(1 + 5 / sum(t in s for s in sentences)) for t in terms}
    vectors = np.array([[s.count(t) * idf[t] for t in terms] + [float(not s)] for s in sentences])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    walk = JUMP / 5 + (1 - JUMP) * cosines / cosines.sum(1, keepdims=True)
    values, states = np.linalg.eig(walk.T)
    expected = np.real(states[:, np.argmax(np.real(values))])
    np.testing.assert_allclose(lexrank(sentences), expected / expected.mean(), atol=1e-6)


def test_lexrank_of_little():
    assert lexrank([]).tolist() == []
    assert lexrank([["a"]]).tolist() == [1.0]
    np.testing.assert_allclose(lexrank([["a"], [], ["b"]]), [1, 1, 1], atol=1e-8)
    central = lexrank([["storm", "lamp"], ["storm", "waves"], ["storm"], ["honey", "jar"]])
    assert central.argmax() == 2
    assert central[3] == pytest.approx(1.0), "a sentence that is like no other keeps its own weight"
    assert central.mean() == pytest.approx(1.0)


@pytest.mark.parametrize("attribution", [DecompX(), GlobEnc()])
def test_words_are_sums_of_their_pieces(minilm, attribution):
    ranking = FrugalPrompt(attribution=attribution).rank(batch(TEXT))
    document = ranking.documents[0]
    expected = torch.zeros(len(document.words))
    sentences = document.texts_of(document.sentences)
    assert len(sentences) == 3
    central = lexrank([[w.strip(".").lower() for w in s.split()] for s in sentences])
    word = 0
    for sentence, weight in zip(sentences, central.tolist(), strict=True):
        encoded = minilm.tokenizer(sentence)
        weights = attribution.attribute(minilm, torch.tensor(encoded["input_ids"]), everything(len(encoded.word_ids())))
        weights = (weights - weights.min()) / (weights.max() - weights.min())
        for token, (start, end) in enumerate(minilm.tokenizer(sentence, return_offsets_mapping=True)["offset_mapping"]):
            if end > start:
                expected[word + len(sentence[: start + 1].split()) - 1] += weight * weights[token]
        word += len(sentence.split())
    torch.testing.assert_close(ranking.scores[0], expected, atol=1e-5, rtol=1e-4)
    best = [document.texts[i] for i in ranking.scores[0][:11].topk(4).indices]
    assert set(best) <= {"lighthouse", "lamp", "repaired", "keeper", "storm.", "broken"}


def test_long_sentences_are_read_in_windows(minilm, monkeypatch):
    monkeypatch.setattr(frugal_prompt, "WINDOW", 12)
    seen: list[int] = []
    original = GlobEnc.attribute

    def counting(self, encoder, ids, mask):
        seen.append(len(ids))
        return original(self, encoder, ids, mask)

    monkeypatch.setattr(GlobEnc, "attribute", counting)
    ranking = FrugalPrompt(attribution="globenc").rank(batch(TEXT.replace(". ", ", ") + " End."))
    assert max(seen) == 12
    assert len(seen) > 3
    assert bool((ranking.scores[0] > 0).any())
    assert len(ranking.scores[0]) == len(ranking.documents[0].words)


def test_what_the_encoder_does_not_see_is_worth_nothing(minilm):
    ranking = FrugalPrompt(attribution="globenc").rank(batch("Honey \u200b is sweet."))
    texts = ranking.documents[0].texts
    assert float(ranking.scores[0][texts.index("\u200b")]) == 0.0


def test_full_budget_returns_the_words(minilm):
    tokens = batch(TEXT)
    assert text_of(FrugalPrompt(budget=1.0).compress(tokens)) == TEXT


def test_an_unknown_attribution_is_refused():
    with pytest.raises(InvalidValue, match="FrugalPrompt: attribution must be one of decompx, globenc; got 'rollout'"):
        FrugalPrompt(attribution="rollout")


def sentences(count: int) -> list[str]:
    """Sentences of 12 to 40 words, as many from each document, evenly spread over it."""
    found = []
    for name in documents():
        paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", read(name))]
        all_ = [s for p in paragraphs for s in re.split(r"(?<=[.!?])\s+", p) if 12 <= len(s.split()) <= 40]
        each = count // len(documents())
        found += all_[:: len(all_) // each][:each]
    return found


@pytest.mark.claim
@pytest.mark.slow
@torch.no_grad()
def test_the_embedding_survives_best_with_decompx(minilm):
    """60 real sentences at 60 %: each step of the order by at least two standard errors of the paired difference."""
    texts = sentences(60)
    assert len(texts) == 60
    kept = SimpleNamespace(decompx=[], globenc=[], inverted=[], random=[[] for _ in range(5)])
    for text in texts:
        tokens = batch(text)
        for name in ("decompx", "globenc"):
            method = FrugalPrompt(budget=0.6, attribution=name)
            ranking = method.rank(tokens)
            getattr(kept, name).append(text_of(method.fit(tokens, ranking)))
            if name == "globenc":
                kept.inverted.append(text_of(method.fit(tokens, ranking.inverted())))
        for seed, chosen in enumerate(kept.random):
            chosen.append(text_of(RandomUnits(units="word", budget=0.6, seed=seed).compress(tokens)))
    whole = text_vectors(minilm, texts)

    def cosine(compressed):
        return (text_vectors(minilm, compressed) * whole).sum(1)

    by_chance = torch.stack([cosine(chosen) for chosen in kept.random]).mean(0)
    order = [cosine(kept.decompx), cosine(kept.globenc), by_chance, cosine(kept.inverted)]
    for better, worse in pairwise(order):
        difference = better - worse
        assert float(difference.mean()) > 2 * float(difference.std()) / math.sqrt(len(texts))
    assert float(order[0].mean()) > 0.88
