"""StochasTok's exact invariants: the splits, the distribution of the loop, and the map to training examples."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from copy import deepcopy

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteFallback, Fuse, Sequence
from tokenizers.decoders import Replace as DecodeReplace
from tokenizers.models import BPE
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from tests.growth import growth
from tests.segment.respelled import PIECES, WORDS, encoded, vocabulary
from tokenry.core.errors import Incompatible
from tokenry.core.vocabulary import Vocabulary
from tokenry.data import read
from tokenry.models.files.load import load_tokenizer
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import prompt
from tokenry.models.text.vocabulary import vocabulary_of
from tokenry.segment import stochastok
from tokenry.segment.spelling import splits
from tokenry.segment.spelling.collator import RespellingCollator
from tokenry.segment.spelling.splits import LONGEST, splits_of
from tokenry.segment.stochastok import StochasTok

SMALL = Vocabulary((b" ", b"a", b"b", b"c", b"ab", b"bc", b"abc"))


def loop(ids, attempts, table, rng):
    """The algorithm as published."""
    sequence = list(ids)
    for _ in range(attempts):
        i = rng.randrange(len(sequence))
        pairs = table.pairs(sequence[i])
        if pairs:
            sequence[i : i + 1] = rng.choice(pairs)
    return sequence


def distribution(ids, attempts, table):
    """The probability of everything that the loop can give."""
    found = {tuple(ids): 1.0}
    for _ in range(attempts):
        after = defaultdict(float)
        for sequence, p in found.items():
            for i, id in enumerate(sequence):
                pairs = table.pairs(id) or [(id,)]
                for pair in pairs:
                    after[sequence[:i] + tuple(pair) + sequence[i + 1 :]] += p / len(sequence) / len(pairs)
        found = after
    return found


def chance(counts, expected):
    """p of Pearson's chi-square, cells of few expected draws put together."""
    big = [k for k, e in expected.items() if e >= 8]
    pairs = [(counts[k], expected[k]) for k in big]
    rest = sum(expected.values()) - sum(e for _, e in pairs)
    if rest >= 8:
        pairs.append((sum(counts.values()) - sum(c for c, _ in pairs), rest))
    assert len(pairs) > 1
    statistic = sum((c - e) ** 2 / e for c, e in pairs)
    return float(torch.special.gammaincc(torch.tensor((len(pairs) - 1) / 2), torch.tensor(statistic / 2)))


@pytest.fixture(scope="module")
def smollm2_vocabulary():
    return vocabulary_of(load_tokenizer("smollm2"))


@pytest.fixture(scope="module")
def smollm2_ids():
    text = read("moby_dick")
    return torch.tensor(load_tokenizer("smollm2")(text, verbose=False)["input_ids"])


def test_added_tokens_are_never_split_nor_made():
    """Neither by a table that was made for the same pieces without them."""
    v = Vocabulary((b" ", b"a", b"b", b"ab", b"abab"), {"ab": 3})
    assert splits_of(Vocabulary(v.pieces)).pairs(4) == [(3, 3)]
    assert splits_of(v).pairs(3) == splits_of(v).pairs(4) == []
    tokenizer = deepcopy(load_tokenizer("smollm2"))
    tokenizer.add_tokens(["the world"])
    added = vocabulary_of(tokenizer)
    ids = torch.tensor(tokenizer("Of the world here")["input_ids"])
    new = StochasTok(share=1.0).respell(ids, added, torch.Generator().manual_seed(0))
    assert added.added["the world"] in new.ids.tolist()


def test_the_table_holds_every_pair_and_no_other():
    table, v = splits_of(vocabulary()), vocabulary()
    for t, piece in enumerate(PIECES):
        expected = {(a, b) for a in range(len(v)) for b in range(len(v)) if v[a] and v[b] and v[a] + v[b] == piece}
        assert set(table.pairs(t)) == expected
        assert len(table.pairs(t)) == len(expected) == table.counts[t]
    assert len(table.pairs(PIECES.index(b"abc"))) == 3, "two ids spell `a`"


def test_equal_vocabularies_share_one_table_and_others_do_not():
    assert splits_of(Vocabulary(PIECES)) is splits_of(Vocabulary(PIECES))
    assert splits_of(Vocabulary(PIECES[::-1])) is not splits_of(Vocabulary(PIECES))
    for i in range(20):
        splits_of(Vocabulary((b" ", b"a" * (i + 1))))
    assert len(splits._tables) == splits.KNOWN


def test_pieces_that_are_joined_by_rules_are_refused():
    with pytest.raises(Incompatible, match="WordPiece"):
        splits_of(Vocabulary((None, b"play", b"ing", b"playing")))


def test_a_hostile_piece_costs_nothing():
    """What is longer than the longest is not looked at: in any other way this would take hours."""
    table = splits_of(Vocabulary((b" ", b"a", b"a" * 4_000_000, b"a" * LONGEST, b"a" * (LONGEST - 1))))
    assert table.counts.tolist() == [0, 0, 0, 2, 0]


@pytest.mark.parametrize(("ids", "share"), [([6, 4, 1], 1.0), ([6, 3, 5, 6], 0.75), ([6, 6], 1.0), ([4, 1, 1], 1.0)])
def test_outcomes_are_distributed_as_those_of_the_loop(ids, share):
    draws, generator, table = 6000, torch.Generator().manual_seed(1), splits_of(SMALL)
    attempts = int(share * len(ids))
    method, given = StochasTok(share=share), torch.tensor(ids)
    counts = Counter(tuple(method.respell(given, SMALL, generator).ids.tolist()) for _ in range(draws))
    expected = {k: p * draws for k, p in distribution(ids, attempts, table).items()}
    assert set(counts) <= set(expected)
    assert chance(counts, expected) > 0.001


def test_the_statistic_sees_a_wrong_distribution():
    """The same sample is refused as one of two attempts: the test above could fail."""
    ids, generator, table = [6, 4, 1], torch.Generator().manual_seed(1), splits_of(SMALL)
    given = torch.tensor(ids)
    counts = Counter(tuple(StochasTok(share=1.0).respell(given, SMALL, generator).ids.tolist()) for _ in range(2000))
    expected = {k: p * 2000 for k, p in distribution(ids, 2, table).items()}
    assert chance(counts, expected) < 1e-6


def test_pairs_are_equally_likely(smollm2_vocabulary):
    table = splits_of(smollm2_vocabulary)
    id = int(table.counts.argmax())
    new = StochasTok(share=0.2).respell(torch.full((20_000,), id), smollm2_vocabulary, torch.Generator().manual_seed(3))
    twice = (new.parent.bincount() == 2).nonzero()[:, 0]
    heads = torch.searchsorted(new.parent, twice)
    found = Counter(zip(new.ids[heads].tolist(), new.ids[heads + 1].tolist(), strict=True))
    pairs = table.pairs(id)
    assert set(found) <= set(pairs)
    total = sum(found.values())
    assert total > 2500
    assert chance(found, {pair: total / len(pairs) for pair in pairs}) > 0.001


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_same_draws_give_what_the_plain_loop_gives(share, smollm2_vocabulary, smollm2_ids, monkeypatch):
    """The loop over one sequence, which always tries the part whose clock is next, ends with the same parts."""
    ids, became, children = smollm2_ids[:400].numpy(), {}, stochastok._children

    def watched(tried, *rest):
        parts = children(tried, *rest)
        for place, born in zip(tried.place.tolist(), tried.tried.tolist(), strict=True):
            mine = np.nonzero(parts.born == born)[0]
            mine = mine[np.argsort(parts.place[mine])]
            became[place, born] = [(int(parts.id[i]), int(parts.place[i]), float(parts.tried[i])) for i in mine]
        return parts

    monkeypatch.setattr(stochastok, "_children", watched)
    new = StochasTok(share=share).respell(smollm2_ids[:400], smollm2_vocabulary, torch.Generator().manual_seed(5))
    clocks = 1 - torch.rand(400, generator=torch.Generator().manual_seed(5), dtype=torch.float64).numpy()
    sequence = [(int(id), i * LONGEST, float(clock)) for i, (id, clock) in enumerate(zip(ids, clocks, strict=True))]
    for _ in range(int(share * 400)):
        i = max(range(len(sequence)), key=lambda j: sequence[j][2])
        sequence[i : i + 1] = became[sequence[i][1:]]
    assert [id for id, _, _ in sequence] == new.ids.tolist()
    assert [place // LONGEST for _, place, _ in sequence] == new.parent.tolist()


def test_every_part_is_of_a_chain_of_pairs(smollm2_vocabulary, smollm2_ids):
    table = splits_of(smollm2_vocabulary)
    new = StochasTok(share=1.0).respell(smollm2_ids, smollm2_vocabulary, torch.Generator().manual_seed(0))
    assert smollm2_vocabulary.spell(new.ids.tolist()) == read("moby_dick").encode()

    def reachable(id, parts):
        if parts == [id]:
            return True
        cuts = {smollm2_vocabulary.spell(parts[:k]): k for k in range(1, len(parts))}
        return any(
            (k := cuts.get(smollm2_vocabulary[a])) is not None and reachable(a, parts[:k]) and reachable(b, parts[k:])
            for a, b in table.pairs(id)
        )

    groups = new.ids.split(new.parent.bincount().tolist())
    assert all(reachable(id, g.tolist()) for id, g in zip(smollm2_ids.tolist(), groups, strict=True))
    assert max(map(len, groups)) > 3


def test_the_facts_of_smollm2(smollm2_vocabulary):
    table = splits._build(smollm2_vocabulary)
    spelled = sum(piece is not None for piece in smollm2_vocabulary)
    assert (int((table.counts > 0).sum()), spelled) == (48_900, 49_135)
    assert len(table.first) / (table.counts > 0).sum() == pytest.approx(2.20, abs=0.005)


def test_text_grows_as_much_as_in_the_loop(smollm2_vocabulary, smollm2_ids):
    table, ids, generator = splits_of(smollm2_vocabulary), smollm2_ids, torch.Generator().manual_seed(0)
    for share, grown in ((0.05, 1.041), (0.1, 1.081), (0.3, 1.230), (1.0, 1.667)):
        method, attempts = StochasTok(share=share), int(share * len(ids))
        ours = [len(method.respell(ids, smollm2_vocabulary, generator)) / len(ids) for _ in range(20)]
        plain = [len(loop(ids.tolist(), attempts, table, random.Random(s))) / len(ids) for s in range(6)]
        assert np.mean(ours) == pytest.approx(grown, abs=0.006)
        assert np.mean(ours) == pytest.approx(np.mean(plain), abs=0.01)


def test_attempts_are_the_share_of_the_free_tokens_rounded_down():
    v = Vocabulary((b" ", *(b"a" * n for n in range(1, 130))))
    long = torch.full((100,), 120)
    for share, attempts in ((0.1, 10), (0.29, 29), (0.099, 9), (1.0, 100)):
        new = StochasTok(share=share).respell(long, v, torch.Generator().manual_seed(0))
        assert len(new) == 100 + attempts, "every attempt hits, for parts of one byte are rare"
    free = torch.arange(100) < 30
    assert len(StochasTok(share=0.1).respell(long, v, torch.Generator().manual_seed(0), free)) == 103


def test_time_is_not_quadratic(smollm2_vocabulary, smollm2_ids):
    def respelled(copies):
        StochasTok(share=0.1).respell(smollm2_ids.repeat(copies), smollm2_vocabulary, torch.Generator().manual_seed(0))

    respelled(1)
    assert growth(respelled, 64, times=16) < 6


def test_a_prompt_keeps_its_template_its_question_and_its_text(smollm2_vocabulary):
    tokenizer = load_tokenizer("smollm2")
    text = "The harbour café was closed. 🙂 Nobody knew why the lighthouse lamp had gone out."
    batch = prompt(tokenizer, [Document(text, protect=((4, 11),))], "Who knew?")
    out = StochasTok(share=1.0).apply(batch, smollm2_vocabulary)
    assert out.shape[1] > batch.shape[1] + 5
    assert tokenizer.decode(out.ids[0]) == tokenizer.decode(batch.ids[0])
    assert out.ids[0][out.protected[0]].tolist() == batch.ids[0][batch.protected[0]].tolist()
    raw = text.encode()
    spans = out.spans()[0]
    edge = 0
    for id, (source, _, start, end, *_) in zip(out.ids[0].tolist(), spans.tolist(), strict=True):
        if source >= 0 and out.origin.sources[source].kind == "text":
            if end - start == len(smollm2_vocabulary[id]):
                assert raw[start:end] == smollm2_vocabulary[id]
            assert start <= edge <= end
            edge = end
    assert edge == len(raw)


def test_text_of_byte_fallback_comes_back():
    """Pieces and bytes may spell the same, and a character may become its bytes."""
    text = (read("moby_dick")[:4000] + " café €5 🙂 日本 naïve\n") * 2
    tokenizer = fallback(read("moby_dick")[:20_000])
    v = vocabulary_of(tokenizer)
    assert len(v.duplicates) > 30
    ids = torch.tensor(tokenizer(text)["input_ids"])
    whole = tokenizer.decode(ids)
    for seed in range(3):
        new = StochasTok(share=1.0).respell(ids, v, torch.Generator().manual_seed(seed))
        assert len(new) > 1.3 * len(ids)
        assert tokenizer.decode(new.ids) == whole


def fallback(text):
    """A tokenizer as SentencePiece makes them, trained on a text."""
    trained = Tokenizer(BPE(unk_token="<unk>"))
    trained.pre_tokenizer = Metaspace(prepend_scheme="never")
    trained.train_from_iterator([text], BpeTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False))
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    pieces = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), *(piece for piece in model["vocab"] if piece != "<unk>")]
    made = Tokenizer(BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True))
    made.normalizer = Replace(" ", "▁")
    made.decoder = Sequence([DecodeReplace("▁", " "), ByteFallback(), Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def test_bytes_of_sentencepiece_stand_for_themselves():
    """A character may become its bytes, and comes back from them."""
    two, three = "é".encode(), "€".encode()
    v = Vocabulary((None, two[:1], two[1:], two, b" ", b" " + two, three[:1], three[1:2], three[2:], three))
    table = splits_of(v)
    assert table.pairs(3) == [(1, 2)]
    assert table.pairs(9) == [], "no piece holds two bytes of a character of three"
    new = StochasTok(share=1.0).respell(torch.tensor([5, 3, 9] * 20), v, torch.Generator().manual_seed(0))
    assert v.spell(new.ids.tolist()).decode() == " éé€" * 20


def test_workers_and_epochs_choose_anew():
    ids = encoded(WORDS).tolist()
    collator = RespellingCollator(StochasTok(share=0.5), vocabulary())

    def epochs(seed):
        loader = DataLoader(
            [{"input_ids": ids}] * 2, collate_fn=collator, num_workers=2, generator=torch.Generator().manual_seed(seed)
        )
        return [tuple(batch[0]["input_ids"]) for _ in range(2) for batch in loader]

    found = epochs(0)
    assert len(set(found)) == 4
    assert epochs(0) == found
