"""Dynamic BPE: merges equal naive ones, and what is read equals what was."""

from __future__ import annotations

import copy
import itertools
import time
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForSequenceClassification

from tests.embed.embed_models import HOSTILE, NEW_TEXT, OLD_TEXT, model, trained
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.registry import parse
from tokenry.data import documents, read
from tokenry.embed.mean_of_pieces import MeanOfPieces
from tokenry.embed.random import RandomEmbeddings
from tokenry.models.files.load import LanguageModel
from tokenry.segment.dynamic_bpe import DynamicBpe
from tokenry.segment.merging.boundaries import LONGEST, Boundary
from tokenry.segment.merging.collator import MergingCollator
from tokenry.segment.merging.pairs import APART, merge_all
from tokenry.segment.merging.rows import RowCache

TEXTS = (NEW_TEXT, OLD_TEXT[:150], HOSTILE, "a lamp")
LETTERS = [b"a", b"b", b" c", None, b"ab"]


def language(family="llama", **changes):
    return model(family, trained(OLD_TEXT, bos_token="<s>", eos_token="</s>"), **changes)


def naive(rows, pieces, known, allowed, weights=None, most=None):
    """The same with all pairs counted anew for every merge: what was merged, the counts of it, and the lengths."""
    pieces, rows, new = list(pieces), [list(row) for row in rows], {}
    weights = weights or [1] * len(rows)
    made, counts, lengths = [], [], [sum(w * len(row) for w, row in zip(weights, rows, strict=True))]
    while most is None or len(made) < most:
        found = Counter()
        for row, weight in zip(rows, weights, strict=True):
            for a, b in itertools.pairwise(row):
                if a >= 0 and b >= 0 and pieces[a] and pieces[b] and allowed(pieces[a] + pieces[b]):
                    found[a, b] += weight
        if not found:
            break
        count, _, _, (a, b) = min((-n, pieces[a], pieces[b], (a, b)) for (a, b), n in found.items())
        spelled = pieces[a] + pieces[b]
        if spelled not in new:
            new[spelled] = known(spelled)
            if new[spelled] is None:
                new[spelled] = len(pieces)
                pieces.append(spelled)
        for r, row in enumerate(rows):
            out, i = [], 0
            while i < len(row):
                if row[i : i + 2] == [a, b]:
                    out.append(new[spelled])
                    i += 2
                else:
                    out.append(row[i])
                    i += 1
            rows[r] = out
        made.append(new[spelled])
        counts.append(-count)
        lengths.append(sum(w * len(row) for w, row in zip(weights, rows, strict=True)))
    return made, lengths, rows


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(APART, 4), max_size=14), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(2, 6),
)
def test_merges_equal_naive_ones(rows, weight, longest):
    given = rows, LETTERS, {b"ab": 4}.get, lambda spelled: len(spelled) <= longest
    weights = [weight + r for r in range(len(rows))]
    found = merge_all(*given, weights=weights)
    made, lengths, after = naive(*given, weights=weights)
    assert (found.made, found.lengths) == (made, lengths)
    assert [[s for s, _ in row] for row in found.after(len(made))] == after
    for count in range(len(made)):
        assert sum(w * len(row) for w, row in zip(weights, found.after(count), strict=True)) == lengths[count]
    assert merge_all(*given, weights=weights, most=1).made == made[:1]


def test_counting_is_not_done_anew():
    """At least twenty times faster than counting all pairs for each merge, in seconds of the processor."""
    tokenizer = trained(OLD_TEXT)
    reader = DynamicBpe().reader(model("llama", tokenizer))
    rows = reader.ids([read(name)[:1500] for name in list(documents())[:2]])
    given = rows, reader.vocabulary.pieces, reader.vocabulary.ids.get, reader.boundary.allows
    merge_all(*given)
    times = []
    for _ in range(3):
        start = time.process_time()
        fast = merge_all(*given)
        times.append(time.process_time() - start)
    start = time.process_time()
    made, lengths, _ = naive(*given)
    assert (fast.made, fast.lengths) == (made, lengths)
    assert (time.process_time() - start) / min(times) > 20


def test_the_dial():
    merges = merge_all([[0, 1, 0, 1, 0, 1, 2, 2]], [b"a", b"b", b"c"], lambda _: None, lambda spelled: len(spelled) < 5)
    assert merges.lengths[0] == 8
    assert merges.count_at(0.0) == 0
    assert merges.count_at(1.0) == len(merges.made)
    for ratio in (0.1, 0.3, 0.5, 0.9):
        count, target = merges.count_at(ratio), 8 - ratio * (8 - merges.lengths[-1])
        assert merges.lengths[count] <= target < merges.lengths[count - 1]


def test_boundaries():
    tokenizer = trained(OLD_TEXT)
    rules = {kind: Boundary(kind, tokenizer) for kind in ("pretoken", "word", "word_hyphen", "sentence")}
    table = {
        b" lamp": "pretoken word word_hyphen sentence",
        b"lamp,": "word word_hyphen sentence",
        b" light-house": "word sentence",
        b"the lamp": "sentence",
        b"dark. The": "",
        "暗い。灯".encode(): "word word_hyphen",
        b"dark. ": "sentence",
        b"\n\n": "",
        b"lamp\n\n": "",
        b"   ": "pretoken word word_hyphen sentence",
        b"\xf0\x9f": "pretoken word word_hyphen sentence",
        b"lamp \xf0\x9f": "sentence",
        b"lamp\xf0\x9f": "pretoken word word_hyphen sentence",
    }
    for spelled, kinds in table.items():
        assert {k for k, rule in rules.items() if rule.allows(spelled)} == set(kinds.split()), spelled
    with pytest.raises(Incompatible, match="boundary=word"):
        Boundary("pretoken", object())


def test_a_tokenizer_that_splits_nowhere_still_begins_tokens_at_spaces():
    tokenizer = copy.deepcopy(trained(OLD_TEXT))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    rule = Boundary("pretoken", tokenizer)
    assert rule.allows(b" lamp")
    assert not rule.allows(b"the lamp")


@pytest.mark.parametrize("boundary", ["pretoken", "word", "word_hyphen", "sentence"])
def test_bytes_stay_and_marks_are_never_merged(boundary):
    lm = language()
    reader = DynamicBpe(boundary=boundary, ratio=1.0).reader(lm)
    mark = lm.tokenizer.convert_tokens_to_ids("<s>")
    rows = [[mark, *ids] for ids in reader.ids(TEXTS)]
    for row, text, ids in zip(reader.merge(rows), TEXTS, rows, strict=True):
        assert row.spelled() == text.encode()
        assert row.ids == ids
        assert row.parts[0] == (mark,)
        assert row.pieces[0] is None
        assert all(reader.boundary.allows(p) for p, part in zip(row.pieces, row.parts, strict=True) if len(part) > 1)
    assert max(len(part) for row in reader.merge(rows) for part in row.parts) > 1


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "opt"])
def test_no_merges_read_what_the_model_reads(family):
    lm = language(family)
    tokens = lm.tokenizer(list(TEXTS), padding=False, add_special_tokens=False)["input_ids"]
    for method in (DynamicBpe(ratio=0.0), DynamicBpe(merges=0)):
        reader = method.reader(lm)
        merged = reader.merge(tokens)
        assert [row.ids for row in merged] == tokens
        assert all(len(part) == 1 for row in merged for part in row.parts)
        given = reader.inputs(merged)
        logits = lm.model(**given).logits
        for r, ids in enumerate(tokens):
            plain = lm.model(input_ids=torch.tensor([ids])).logits[0]
            torch.testing.assert_close(logits[r, -len(ids) :], plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_a_row_reads_the_same_alone_and_beside_a_longer_one(family):
    lm = language(family)
    reader = DynamicBpe(ratio=1.0, scope="sequence").reader(lm)
    merged = reader.merge(reader.ids(TEXTS))
    both = lm.model(**reader.inputs(merged)).logits
    for r, text in enumerate(TEXTS):
        (alone,) = reader.merge(reader.ids([text]))
        assert alone.parts == merged[r].parts, "the same segmentation in any batch"
        torch.testing.assert_close(
            both[r, -len(alone) :], lm.model(**reader.inputs([alone])).logits[0], atol=1e-5, rtol=1e-4
        )


def test_rows_are_scaled_as_the_model_scales_its_own():
    lm = language("gemma3_text")
    reader = DynamicBpe(ratio=1.0).reader(lm)
    (row,) = reader.merge(reader.ids([NEW_TEXT]))
    at = next(i for i, part in enumerate(row.parts) if len(part) == 2)
    table = lm.model.get_input_embeddings()
    expected = table(torch.tensor(reader.donor.cut([row.pieces[at]])[0])).mean(0)
    torch.testing.assert_close(reader.embed(row)[at], expected)


def test_ratio_and_merges_shorten_as_asked():
    reader = DynamicBpe().reader(language())
    rows = reader.ids(TEXTS)
    merges = reader.curve(rows)
    for ratio in (0.0, 0.25, 0.5, 1.0):
        length = sum(map(len, reader.merge(rows, ratio=ratio)))
        assert length == merges.lengths[merges.count_at(ratio)]
    found = DynamicBpe(merges=3).reader(language()).merge(rows)
    assert sum(map(len, found)) == merges.lengths[3]
    assert sum(map(len, DynamicBpe(merges=10**9).reader(language()).merge(rows))) == merges.lengths[-1]


def test_kept_rows_are_those_that_are_made():
    donor = DynamicBpe().reader(language()).donor
    for provider in (MeanOfPieces(), RandomEmbeddings()):
        cache = RowCache(provider, donor, 3)
        first = cache.rows([b" lampoon", b"darkness"])
        again = cache.rows([b"darkness", b" lampoon"])
        assert torch.equal(first.input, again.input.flip(0))
        assert cache.made == 2
        many = [b"one", b"twos", b"threes", b"fours", b"fives"]
        cache.rows(many)
        assert len(cache) == 5, "a batch keeps all that it needs"
        cache.rows([b"one", b"sixes"])
        assert len(cache) == 3
        assert b"one" in cache
        assert b"twos" not in cache, "what was needed longest ago goes"
        assert torch.equal(cache.rows([b" lampoon"]).input[0], first.input[0])


def test_rows_of_a_batch_are_made_in_one_call():
    calls = []

    class Counted(MeanOfPieces):
        def table(self, pieces, donor):
            calls.append(list(pieces))
            return super().table(pieces, donor)

    reader = DynamicBpe(ratio=1.0, provider=Counted(), cache=1).reader(language())
    reader.inputs(reader.merge(reader.ids(TEXTS)))
    assert len(calls) == 1
    assert len(set(calls[0])) == len(calls[0])


def test_examples_of_a_causal_model_keep_what_is_learned():
    lm = language()
    reader = DynamicBpe(ratio=1.0).reader(lm)
    (ids,) = reader.ids([NEW_TEXT])
    labels = [-100] * 30 + ids[30:]
    batch = MergingCollator(reader)([{"input_ids": ids, "labels": labels, "attention_mask": [1] * len(ids)}])
    learned = batch["labels"][batch["labels"] != -100]
    assert learned.tolist() == ids[30:]
    assert batch["inputs_embeds"].shape[1] == batch["labels"].shape[1] < len(ids)
    assert batch["labels"][0, -len(ids[30:]) :].tolist() == ids[30:]
    padded = {"input_ids": [0, 0, *ids], "labels": [-100, -100, *labels], "attention_mask": [0, 0] + [1] * len(ids)}
    assert torch.equal(MergingCollator(reader)([padded])["inputs_embeds"], batch["inputs_embeds"])
    drawn = MergingCollator(reader, drawn=(0.0, 1.0), seed=3)
    sizes = {drawn([{"input_ids": ids, "labels": labels}])["labels"].shape[1] for _ in range(6)}
    assert len(sizes) > 2
    with pytest.raises(InvalidValue, match=r"ratio must be in \[0, 1\]; got 1.5"):
        MergingCollator(reader, ratio=1.5)([{"input_ids": ids}])
    for wrong in ((0.5, 0.2), (-1.0, 0.5)):
        with pytest.raises(InvalidValue, match="lower first"):
            MergingCollator(reader, drawn=wrong)


def test_words_of_an_encoder_are_labelled_at_their_first_token():
    lm = encoder()
    reader = DynamicBpe(ratio=1.0).reader(lm)
    (ids,) = reader.ids([NEW_TEXT])
    classes = [i % 5 for i in range(len(ids))]
    collator = MergingCollator(reader)
    batch = collator([{"input_ids": ids, "labels": classes}, {"input_ids": ids[:9], "labels": classes[:9]}])
    (row,) = reader.merge([ids])
    whole = collator([{"input_ids": ids, "labels": classes}])
    assert whole["labels"][0].tolist() == [classes[start] for start in row.starts]
    assert batch["attention_mask"][1].sum() < batch["attention_mask"].shape[1]
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert collator([{"input_ids": ids, "labels": 1}])["labels"].tolist() == [1]
    with pytest.raises(InvalidValue, match="one for each token"):
        collator([{"input_ids": ids, "labels": classes[1:]}])


def test_an_encoder_reads_the_sentences_of_a_pair():
    lm = encoder()
    torch.nn.init.normal_(lm.model.bert.embeddings.token_type_embeddings.weight)
    (ids,) = DynamicBpe().reader(lm).ids([NEW_TEXT])
    kinds = [int(i > 3) for i in range(len(ids))]
    batch = MergingCollator(DynamicBpe(ratio=0.0).reader(lm))(
        [{"input_ids": ids, "token_type_ids": kinds}, {"input_ids": ids[:12], "token_type_ids": kinds[:12]}]
    )
    given = {"input_ids": torch.tensor([ids[:12]]), "token_type_ids": torch.tensor([kinds[:12]])}
    torch.testing.assert_close(lm.model(**batch).logits[1], lm.model(**given).logits[0], atol=1e-5, rtol=1e-4)


def encoder():
    tokenizer = trained(OLD_TEXT, bos_token="<s>", eos_token="</s>")
    config = AutoConfig.for_model(
        "bert", vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, num_labels=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = AutoModelForSequenceClassification.from_config(config).eval()
    return LanguageModel(built, tokenizer, "tiny bert", 512)


def test_an_encoder_reads_what_it_reads():
    lm = encoder()
    reader = DynamicBpe(ratio=0.0).reader(lm)
    tokens = reader.ids(TEXTS)
    logits = lm.model(**reader.inputs(reader.merge(tokens))).logits
    for r, ids in enumerate(tokens):
        torch.testing.assert_close(logits[r], lm.model(input_ids=torch.tensor([ids])).logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_an_adapter_learns_to_read_merged_tokens(kind):
    peft = pytest.importorskip("peft")
    lm = language() if kind == "decoder" else encoder()
    reader = DynamicBpe(ratio=0.75).reader(lm)
    rows = reader.ids([NEW_TEXT[i : i + 60] for i in range(0, 120, 20)])
    if kind == "decoder":
        examples = [{"input_ids": ids, "labels": [-100] * 12 + ids[12:]} for ids in rows]
    else:
        examples = [{"input_ids": ids, "labels": i % 2} for i, ids in enumerate(rows)]
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(lm.model, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    weights = [p for p in wrapped.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(weights, lr=1e-2), []
    collator = MergingCollator(reader, drawn=(0.5, 1.0))
    for _ in range(40):
        loss = wrapped(**collator(examples)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert not any(p.grad is not None for p in lm.model.get_input_embeddings().parameters())


def test_word_pieces_get_their_spaces():
    from transformers import BertTokenizerFast

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "##s", "the", "cat"]
    tokenizer = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
    lm = LanguageModel(encoder().model, tokenizer, "tiny", 512)
    (row,) = DynamicBpe(ratio=1.0).reader(lm).merge([tokenizer("the cat plays playing")["input_ids"]])
    assert row.pieces == (None, b" the", b" cat", b" plays", b" playing", None)
    embeds = DynamicBpe().reader(lm).embed(row)
    table = lm.model.get_input_embeddings().weight
    torch.testing.assert_close(embeds[4], table[[5, 6]].mean(0))


@pytest.mark.parametrize("text", ["a" * 20_000, " ".join(f"w{i}" for i in range(3000)), "\u0301" * 3000, "^" * 9000])
@pytest.mark.parametrize("boundary", ["pretoken", "sentence"])
def test_hostile_texts_take_no_time_of_their_square(text, boundary):
    reader = DynamicBpe(boundary=boundary, ratio=1.0).reader(language())
    start = time.process_time()
    (row,) = reader.merge(reader.ids([text]))
    assert time.process_time() - start < 10
    assert row.spelled() == text.encode()
    assert max(len(p or b"") for p in row.pieces) <= LONGEST


def test_bad_settings_and_the_one_line_form():
    for wrong in ({"ratio": 1.5}, {"merges": -1}, {"boundary": "line"}, {"scope": "row"}, {"cache": 0}):
        with pytest.raises(InvalidValue, match=next(iter(wrong))):
            DynamicBpe(**wrong)
    method = parse("dynamic_bpe:ratio=0.25,provider=token_adapt[weight=0.5],scope=sequence")
    assert method.provider.weight == 0.5
    assert parse(str(method)) == method
    with pytest.raises(InvalidValue, match="provider must be one of"):
        DynamicBpe(provider="bpe")
