"""Writing with merged tokens: an index over all leaves is exact, and without more pieces what is written is greedy."""

from __future__ import annotations

import pytest
import torch

from tests.embed.embed_models import NEW_TEXT, OLD_TEXT
from tests.segment.test_dynamic_bpe import language
from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.segment.dynamic_bpe import DynamicBpe
from tokenry.segment.merging.head import IndexedHead
from tokenry.segment.merging.writing import Writer


def test_an_index_of_all_leaves_is_exact_and_more_leaves_find_more():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3000, 16, generator=generator) * torch.rand(3000, 1, generator=generator)
    queries = torch.randn(60, 16, generator=generator)
    exact, ivf = IndexedHead(rows, "exact"), IndexedHead(rows, leaves=40)
    assert torch.equal(torch.sort(ivf.ids).values, torch.arange(3000))
    recalls = []
    for searched in (1, 2, 5, 10, 20, 40):
        hits = 0
        for q in queries:
            scores, ids = ivf.search(q, searched=searched)
            assert scores[0] == pytest.approx(float(rows[ids[0]] @ q), rel=1e-5)
            hits += int(ids[0]) == int((rows @ q).argmax())
        recalls.append(hits)
    assert recalls == sorted(recalls)
    assert recalls[-1] == 60
    assert recalls[2] > 30
    for q in queries[:5]:
        top = (rows @ q).topk(7)
        for head in (exact, IndexedHead(rows, leaves=40, searched=40)):
            scores, ids = head.search(q, 7)
            assert torch.equal(ids, top.indices)
            torch.testing.assert_close(scores, top.values)


def test_an_index_breaks_ties_by_id_and_refuses():
    rows = torch.ones(10, 3)
    assert IndexedHead(rows, leaves=3, searched=3).search(torch.ones(3))[1].tolist() == [0]
    assert IndexedHead(rows, "exact").search(torch.ones(3))[1].tolist() == [0]
    for rows_ in (rows, rows.repeat(1000, 1)):
        for head in (IndexedHead(rows_, "exact"), IndexedHead(rows_, leaves=3, searched=3)):
            assert head.search(torch.ones(3), 5)[1].tolist() == [0, 1, 2, 3, 4]
    for wrong in ({"index": "tree"}, {"leaves": 0}, {"leaves": 11}, {"leaves": 3, "searched": 4}):
        with pytest.raises(InvalidValue, match="IndexedHead"):
            IndexedHead(rows, **wrong)


def test_a_wide_leaf_is_searched_before_a_narrow_one_of_a_slightly_higher_mean():
    chance = torch.Generator().manual_seed(0)
    high, wide = 3 * torch.eye(32)[0], 2.9 * torch.eye(32)[1]
    noise = torch.randn(100, 32, generator=chance)
    rows = torch.cat([high + 0.01 * noise[:50], wide + 0.3 * noise[50:]])
    head, query = IndexedHead(rows, leaves=2, searched=1), torch.eye(32)[0] + torch.eye(32)[1]
    assert head.ends == [0, 50, 100]
    best = (rows @ query).max()
    assert best > (high @ query) + 0.3
    assert head.search(query)[0] == best


def test_leaves_without_rows_are_not_searched():
    """Rows that are alike leave some of the leaves empty; all products are below what an empty one would promise."""
    rows = torch.eye(2, 4).repeat_interleave(32, 0)
    head = IndexedHead(rows, leaves=8, searched=1)
    for count in (1, 3):
        scores, ids = head.search(torch.tensor([-1.0, -2, 0, 0]), count)
        assert scores.tolist() == [-1.0] * count
        assert ids.tolist() == list(range(count))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("index", ["exact", "ivf"])
def test_writing_without_more_pieces_is_greedy(family, index):
    lm = language(family)
    method = DynamicBpe(ratio=0.0)
    expanded = method.expanded(lm, [OLD_TEXT], len(lm.model.get_input_embeddings().weight))
    assert expanded.pieces == ()
    head = IndexedHead(expanded.outputs(), index, leaves=17, searched=17 if index == "ivf" else 1)
    writer = Writer(expanded, head)
    found = writer.write("The keeper", most=12)
    ids = torch.tensor([lm.tokenizer("The keeper", add_special_tokens=False)["input_ids"]])
    greedy = lm.model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert list(found.ids) == greedy.tolist()
    assert found.spelled == writer.reader.vocabulary.spell(found.ids)


def test_writing_with_more_pieces():
    lm = language()
    expanded = DynamicBpe(ratio=0.5).expanded(lm, [NEW_TEXT, OLD_TEXT], 340)
    assert 310 < len(expanded) <= 340
    assert len(set(expanded.pieces)) == len(expanded.pieces)
    rows = expanded.outputs()
    own = lm.model.get_output_embeddings().weight
    assert torch.equal(rows[: len(own)], own)
    writer = Writer(expanded, IndexedHead(rows, leaves=5, searched=5))
    greedy = writer.write("The lamp", most=9)
    assert writer.write("The lamp", most=9).ids == greedy.ids
    assert greedy.spelled == b"".join(expanded.piece(i) or b"" for i in greedy.ids)
    cold = writer.write("The lamp", most=9, temperature=1e-4, candidates=3)
    assert cold.ids == greedy.ids
    drawn = [writer.write("The lamp", most=60, temperature=5.0, candidates=400, seed=seed).ids for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert any(i >= len(own) for ids in drawn for i in ids), "pieces that the model does not have are written"
    exact = Writer(expanded, IndexedHead(rows, "exact")).write("The lamp", most=9)
    assert exact.ids == greedy.ids
    with pytest.raises(InvalidValue, match="head must have"):
        Writer(expanded, IndexedHead(rows[:-1], "exact"))
    with pytest.raises(InvalidValue, match="temperature must be"):
        writer.write("The lamp", temperature=-1)
    with pytest.raises(InvalidValue, match="token each"):
        writer.write("")
    with pytest.raises(InvalidValue, match="at least the model's"):
        DynamicBpe().expanded(lm, [OLD_TEXT], 5)
    with pytest.raises(InvalidValue, match="must hold some text"):
        DynamicBpe().expanded(lm, [""], 400)


def test_capped_logits_are_refused():
    lm = language("gemma2")
    expanded = DynamicBpe().expanded(lm, [OLD_TEXT], len(lm.model.get_input_embeddings().weight))
    lm.model.config.final_logit_softcapping = 0.001
    with pytest.raises(UnsupportedModel, match="scaled or capped"):
        Writer(expanded, IndexedHead(expanded.outputs(), "exact"))
