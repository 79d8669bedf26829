"""What every model of chunks must do: whole = in pieces = byte by byte, whatever stands beside it, and lose nothing."""

from __future__ import annotations

import random

import pytest
import torch

from tests.contract.cases import cases
from tests.contract.test_segment import BROKEN, check_spans
from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Unbuilt
from tokenry.core.registry import parse
from tokenry.core.tokens import TokenBatch
from tokenry.segment.engines.hostile import TEXTS
from tokenry.segment.engines.opening import open_tokenizer
from tokenry.segment.hierarchy.chunks import Chunks
from tokenry.segment.hierarchy.model import HierarchicalLM
from tokenry.segment.parts.boundaries import MARK

WIDTH = 32
TEXT = "Hello, wörld! Это 你好, fooBar नमस्ते baz. qux  1".encode()
METHODS = [c for c in cases("segment") if issubclass(c.method, HierarchicalLM)]


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    return request.param


def built(method, seed=0):
    """A model whose numbers are far from those it begins with, so that it cuts here and there."""
    model = method.build(width=WIDTH).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)
    return model


@pytest.fixture
def model(case):
    return built(case.trial())


def rows(model, *texts):
    """Texts side by side, with padding anywhere."""
    ids = [model.ids(text) for text in texts]
    longest = max(map(len, ids)) + 5
    out, real = torch.full((len(ids), longest), 7), torch.zeros(len(ids), longest, dtype=torch.bool)
    for i, row in enumerate(ids):
        places = sorted(random.Random(i).sample(range(longest), len(row)))
        out[i, places], real[i, places] = torch.tensor(row), True
    return out, real


def in_pieces(model, ids, sizes, real=None):
    reading, parts = model.begin(len(ids)), []
    there = torch.ones_like(ids, dtype=torch.bool) if real is None else real
    for part, own in zip(ids.split(sizes, 1), there.split(sizes, 1), strict=True):
        parts.append(model.read(part, reading, own))
    return torch.cat(parts, 1)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [1, 5, 17, [20, 1, 1, 2]], ids=str)
def test_step_equals_forward(model, sizes):
    ids = torch.tensor([model.ids(TEXT)])
    whole, cuts = model.whole(ids)
    assert 3 < int(cuts[0].at.sum()) < ids.shape[1] - 3
    if isinstance(sizes, list):
        sizes = [*sizes, ids.shape[1] - sum(sizes)]
    torch.testing.assert_close(in_pieces(model, ids, sizes), whole, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_later_bytes_do_not_matter(model):
    ids = torch.tensor([model.ids(TEXT)])
    before = model(ids)
    for at in range(1, ids.shape[1]):
        for other in (MARK, int(ids[0, at]) ^ 1, 32):
            changed = ids.clone()
            changed[0, at] = min(other, MARK)
            after = model(changed)
            torch.testing.assert_close(after[:, :at], before[:, :at], atol=1e-5, rtol=1e-4)
            if int(changed[0, at]) != int(ids[0, at]) and at + 1 < ids.shape[1] and "at_once" not in str(model):
                assert not torch.equal(after[:, at:], before[:, at:])


def test_no_gradient_comes_from_later_bytes(model):
    ids = torch.tensor([model.ids(TEXT)])
    seen = []
    hook = model.embed.register_forward_hook(lambda m, i, o: seen.append(o.requires_grad_()) or o)
    logits = model.train()(ids)
    hook.remove()
    states = seen[0]
    for at in (0, 7, 20, ids.shape[1] - 2):
        (grad,) = torch.autograd.grad(logits[0, at].square().sum(), states, retain_graph=True)
        assert not grad[0, at + 1 :].any()
        assert at == 0 or grad[0, : at + 1].any()


@torch.no_grad()
@pytest.mark.parametrize("sizes", [1, 7, 1000])
def test_padding_and_other_rows_do_not_matter(model, sizes):
    texts = (TEXT, b"short", TEXT[:30], b"")
    ids, real = rows(model, *texts)
    for out in (model(ids, real), in_pieces(model, ids, min(sizes, ids.shape[1]), real)):
        assert not out[~real].any()
        for i, text in enumerate(texts):
            alone = model(torch.tensor([model.ids(text)]))[0]
            torch.testing.assert_close(out[i, real[i]], alone, atol=1e-4, rtol=1e-4)


def test_all_parameters_get_finite_gradients(case):
    model = built(case.trial()).train()
    ids, real = rows(model, TEXT, TEXT[5:])
    torch.manual_seed(0)
    nats, price = model.loss(ids, real)
    (nats + price).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert bool(p.grad.isfinite().all()), name


@torch.no_grad()
def test_the_loss_is_the_price_of_all_ids(model):
    ids, real = rows(model, TEXT, TEXT[:9])
    nats, price = model.loss(ids, real)
    wanted = 0.0
    for row, there in zip(ids, real, strict=True):
        alone = row[there].unsqueeze(0)
        logs = model(alone)[0, :-1].log_softmax(-1)
        wanted -= float(logs.gather(1, alone[0, 1:, None]).sum())
    assert float(nats) == pytest.approx(wanted, rel=1e-4)
    assert float(price) >= 0


@torch.no_grad()
def test_saved_is_loaded_and_the_same_seed_gives_the_same(case, model, tmp_path):
    ids = torch.tensor([model.ids(TEXT)])
    model.save(tmp_path / "model")
    again = parse(str(tmp_path / "model"))
    assert type(again) is case.method
    assert torch.equal(again(ids), model(ids))
    first, second = (case.trial().build(width=WIDTH).state_dict() for _ in range(2))
    assert all(torch.equal(first[n], second[n]) for n in first)


@torch.no_grad()
def test_it_is_a_model_of_transformers(model, tmp_path):
    from transformers import AutoModelForCausalLM

    from tokenry.models.generate.learned import LearnedForCausalLM

    LearnedForCausalLM.of(model).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([model.ids(TEXT[:20])])
    assert torch.equal(theirs(ids).logits, model(ids))
    mean = theirs(ids, labels=ids).loss
    torch.testing.assert_close(mean, model.loss(ids, torch.ones_like(ids).bool())[0] / (ids.shape[1] - 1))
    torch.testing.assert_close(theirs(ids, labels=ids, num_items_in_batch=3 * (ids.shape[1] - 1)).loss, mean / 3)
    for more in ({}, {"num_beams": 3}):
        said, slowly = (
            theirs.generate(ids, max_new_tokens=8, do_sample=False, use_cache=use, **more) for use in (True, False)
        )
        assert said.tolist() == slowly.tolist()
    two, mask = torch.nn.functional.pad(ids, (4, 0), value=MARK).repeat(2, 1), torch.ones(2, ids.shape[1] + 4)
    two[1, : ids.shape[1]], two[1, ids.shape[1] :] = ids[0], 65
    mask[0, :4] = 0
    both = theirs.generate(two, attention_mask=mask.long(), max_new_tokens=8, do_sample=False)
    assert both[0, 4:].tolist() == theirs.generate(ids, max_new_tokens=8, do_sample=False)[0].tolist()
    assert open_tokenizer(str(tmp_path)).encode(TEXT).spans.tolist() == Chunks(model=model).encode(TEXT).spans.tolist()
    with pytest.raises(InvalidValue, match="rows must be padded in front"):
        theirs.generate(two.flip(1), attention_mask=mask.long().flip(1), max_new_tokens=2)
    for more in ({"inputs_embeds": torch.zeros(1, 3, WIDTH)}, {"output_attentions": True}):
        with pytest.raises(InvalidValue, match="must be given ids and gives logits"):
            theirs(ids, **more)


@torch.no_grad()
def test_a_reading_follows_its_rows(model):
    """As beams do: two texts change places, and one goes on twice."""
    from tokenry.models.generate.learned import taken

    ids, real = rows(model, TEXT, TEXT[7:] + b" and more")
    reading = model.begin(2)
    model.read(ids, reading, real)
    then = torch.tensor([list(b" go on")]).expand(3, -1)
    found = model.read(then, taken(reading, torch.tensor([1, 0, 1])))
    for row, of in enumerate((1, 0, 1)):
        whole = torch.cat((ids[of, real[of]], then[0])).unsqueeze(0)
        torch.testing.assert_close(found[row], model(whole)[0, -6:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("text", [*TEXTS, *BROKEN], ids=range(len(TEXTS) + len(BROKEN)))
def test_chunks_partition_the_source(model, text):
    data = text if isinstance(text, bytes) else text.encode()
    tokenizer = Chunks(model=model)
    sequence = tokenizer.encode(text)
    check_spans(sequence, data)
    assert bool((sequence.spans[:, 1] > sequence.spans[:, 0]).all())
    assert sequence.ids.tolist() == [-1] * len(sequence)
    assert tokenizer.lossless
    assert tokenizer.decode(sequence) == data == tokenizer.decode(list(data))
    assert b"".join(data[a:b] for a, b in model.spans(data)) == data


def test_chunks_are_those_that_the_model_reads(model):
    at = model.whole(torch.tensor([model.ids(TEXT)]))[1][0].at[0]
    assert len(Chunks(model=model).encode(TEXT)) in (int(at.sum()) - 1, int(at.sum()))


def test_chunks_open_by_their_folder_and_make_batches(model, tmp_path):
    model.save(tmp_path / "run" / "model")
    for name in (tmp_path / "run", tmp_path / "run" / "model"):
        tokenizer = open_tokenizer(str(name))
        assert (
            tokenizer.encode("Hello there").spans.tolist() == Chunks(model=model).encode("Hello there").spans.tolist()
        )
    batch = TokenBatch.collate([tokenizer.encode("A first long row of text."), tokenizer.encode("b")])
    assert batch.lengths.tolist() == [len(tokenizer.encode("A first long row of text.")), 1]
    with pytest.raises(InvalidValue, match=r"ids must be from 0 to 255, bytes; got -1"):
        tokenizer.decode([-1])
    with pytest.raises(InvalidValue, match="half a surrogate pair at 1"):
        tokenizer.encode("a\ud83db")


def test_long_texts_are_cut_in_linear_time_and_as_if_at_once(model, monkeypatch):
    text = TEXT * 8
    once = model.ends(text)
    assert not model.training
    with monkeypatch.context() as broken:
        broken.setattr(type(model.top), "cut", None)
        if not model.spells:
            with pytest.raises(TypeError):
                model.train().ends(text)
            assert model.training
    model.eval()
    monkeypatch.setattr("tokenry.segment.hierarchy.model.PIECE", 37)
    assert model.ends(text) == once
    assert model.ends(b"") == []
    assert model.ends(b"a") == [1]


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 0), (0, 3), (0, 0)], ids=str)
def test_rows_of_nothing_are_read(model, shape):
    ids = torch.full(shape, MARK)
    assert model(ids).shape == model.read(ids, model.begin(shape[0])).shape == (*shape, MARK + 1)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_the_same_in_pieces(case, dtype):
    model = case.trial().build(width=WIDTH).eval()
    ids = torch.tensor([model.ids(TEXT)])
    whole = model(ids)
    half = model.to(dtype)(ids)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), whole, atol=2e-2, rtol=0)
    torch.testing.assert_close(in_pieces(model, ids, 5), half, atol=2e-2, rtol=0)


def test_inside_autocast_it_learns(case):
    model = case.trial().build(width=WIDTH).train()
    ids, real = rows(model, TEXT, TEXT[5:])
    with torch.autocast("cpu", torch.bfloat16):
        nats, price = model.loss(ids, real)
        (nats + price).backward()
        whole = model.eval()(ids, real)
        torch.testing.assert_close(in_pieces(model, ids, 5, real), whole, atol=2e-2, rtol=0)
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_bad_ids_are_refused(case, model):
    with pytest.raises(Unbuilt, match="must be built before"):
        case.trial()(torch.tensor([[MARK]]))
    for wrong in (torch.tensor([MARK, 1]), torch.tensor([[MARK, 257]]), torch.tensor([[MARK, -1]]), torch.rand(1, 3)):
        with pytest.raises(InvalidValue, match=r"ids must be rows of numbers in \[0, 257\)"):
            model(wrong)
    with pytest.raises(InvalidValue, match="must begin with 256, the mark"):
        model(torch.tensor([[65, 66]]))
    with pytest.raises(InvalidValue, match="mask must be of shape"):
        model(torch.tensor([[MARK, 66]]), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(InvalidValue, match="layers must be"):
        case.method(layers=(1, 2))
    with pytest.raises(InvalidValue, match="longest must be at least 4"):
        case.method(longest=2)
