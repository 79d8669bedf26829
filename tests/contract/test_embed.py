"""Every embedding of new pieces, found through the registry: what any of them must hold to."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from tests.contract.cases import cases
from tests.embed.embed_models import HOSTILE, NEW_TEXT, OLD_TEXT, described, model, trained
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.core.fields import positive
from tokenry.core.learned import Learned
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer import surfaces
from tokenry.embed.transfer.donor import Donor, Rows
from tokenry.embed.transfer.mixture import mean
from tokenry.embed.transfer.transplant import IDLE, MADE, Transplant
from tokenry.models.text.embeddings import matrices_of, save
from tokenry.models.text.vocabulary import vocabulary_of

METHODS = cases("embed")
FAMILIES = ("llama", "gemma2", "gpt2", "phi")
"""Matrices apart, tied and scaled, tied, and apart with a bias."""

PHI = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    if any(f.name == "encoder" for f in fields(request.param.method)):
        request.getfixturevalue("minilm")
    return request.param


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory, monkeypatch):
    kept = tmp_path_factory.getbasetemp() / "surfaces"
    monkeypatch.setattr(surfaces, "folder", lambda: kept)


@pytest.fixture(params=FAMILIES)
def old(request):
    tokenizer = trained(OLD_TEXT, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    if request.param != "phi":
        return model(request.param, tokenizer, spare=5)
    from transformers import PhiConfig

    config = PhiConfig(vocab_size=len(tokenizer) + 5, **PHI)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = AutoModelForCausalLM.from_config(config).eval()
        nn.init.normal_(built.lm_head.bias)
    return type(model("llama", tokenizer))(built, tokenizer, "tiny phi", 512)


@pytest.fixture
def new():
    return trained(NEW_TEXT, 330, bos_token="<begin>", eos_token="</s>")


def logits(language, ids):
    with torch.no_grad():
        return language.model(torch.tensor(ids)).logits


def padded(language, ids, left):
    mask = torch.ones(1, len(ids) + left, dtype=torch.long)
    mask[:, :left] = 0
    with torch.no_grad():
        return language.model(torch.tensor([[0] * left + ids]), attention_mask=mask).logits[0, left:]


def test_its_own_vocabulary_changes_nothing(case, old):
    """Rows are the model's, bit for bit. Logits are too, but for what processors round with more rows at once."""
    same = case.trial().transfer(old, old.tokenizer)
    text = old.tokenizer(HOSTILE)["input_ids"]
    assert same.tokenizer(HOSTILE)["input_ids"] == text
    before, after = matrices_of(old.model), matrices_of(same.model)
    rows = len(before.input)
    assert torch.equal(after.input[:rows], before.input)
    assert before.output is None or torch.equal(after.output[:rows], before.output)
    for found, own in (
        (logits(same, [text, text[::-1]]), logits(old, [text, text[::-1]])),
        (padded(same, text, 3), padded(old, text, 3)),
    ):
        torch.testing.assert_close(found[..., :rows], own, atol=2e-6, rtol=1e-5)
    assert len(after.input) == 384


def test_shared_rows_are_copied_and_others_made(case, old, new):
    plan = Transplant.of(old, new)
    assert plan.counts["copied"] > 250
    assert 10 < plan.counts["made"] == len(plan.pieces)
    done = case.trial().transfer(old, new)
    before, after = matrices_of(old.model), matrices_of(done.model)
    made = case.trial().table(plan.pieces, plan.donor)
    copied, wanted = plan.source >= 0, plan.source == MADE
    for was, now, rows in ((before.input, after.input, made.input), (before.output, after.output, made.output)):
        if was is not None:
            used = now[: len(plan.source)]
            assert torch.equal(used[copied], was[plan.source[copied]])
            assert torch.equal(used[wanted], rows)
            assert now.isfinite().all()
    assert (before.output is None) == (after.output is None)
    assert logits(done, [done.tokenizer(HOSTILE)["input_ids"]]).isfinite().all()


def test_rows_do_not_depend_on_their_company(case, old):
    donor = Donor.of(old)
    pieces = [b" lightkeeper", b"\xe6\x97", None, b" darken", b"\xe2\x80\x94", b"zzz", b"  "]
    whole, other = case.trial().table(pieces, donor), case.trial().table(pieces[::-1], donor)
    for given, turned in zip(whole, other, strict=True):
        if given is not None:
            torch.testing.assert_close(given, turned.flip(0), rtol=0, atol=1e-6)
    for i, piece in enumerate(pieces):
        alone = case.trial().table([piece], donor).input
        torch.testing.assert_close(alone[0], whole.input[i], rtol=0, atol=1e-6)


def test_no_pieces(case, old):
    made = case.trial().table([], Donor.of(old))
    assert made.input.shape == (0, matrices_of(old.model).input.shape[1])


def test_the_same_twice_and_nothing_else_is_touched(case, old, new):
    state, before = torch.get_rng_state(), {n: p.clone() for n, p in old.model.state_dict().items()}
    config, pieces = old.model.config.to_dict(), vocabulary_of(new).fingerprint
    first, second = (case.trial().transfer(old, new) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(p, before[n]) for n, p in old.model.state_dict().items())
    assert old.model.config.to_dict() == config
    assert vocabulary_of(new).fingerprint == pieces
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


def test_types_of_numbers_stay(case, old, new):
    old.model.to(torch.bfloat16)
    done = case.trial().transfer(old, new)
    assert {p.dtype for p in done.model.parameters()} == {torch.bfloat16}
    assert case.trial().table([b"zz"], Donor.of(old)).input.dtype == torch.float32


def test_the_folder_loads_with_plain_transformers(case, old, new, tmp_path):
    done = case.trial().transfer(old, new)
    save(done, tmp_path / "model")
    model, tokenizer = (
        kind.from_pretrained(tmp_path / "model") for kind in (AutoModelForCausalLM, AutoTokenizer)
    )  # fmt: skip
    ids = tokenizer(HOSTILE)["input_ids"]
    assert ids == done.tokenizer(HOSTILE)["input_ids"]
    with torch.no_grad():
        assert torch.equal(model.eval()(torch.tensor([ids])).logits, logits(done, [ids]))
    assert model.config.get_text_config().vocab_size == len(matrices_of(model).input) == 384
    assert model.generation_config.eos_token_id == done.model.generation_config.eos_token_id
    assert (tokenizer.bos_token, tokenizer.eos_token) == (done.tokenizer.bos_token, done.tokenizer.eos_token)


def test_what_cannot_be_exchanged_is_refused(case, old):
    empty = PreTrainedTokenizerFast(tokenizer_object=type(old.tokenizer.backend_tokenizer)(_no_pieces()))
    with pytest.raises(InvalidValue, match="tokenizer: must have pieces; got an empty vocabulary"):
        case.trial().transfer(old, empty)
    wrong = type(old)(old.model, trained(NEW_TEXT, 500), "wrong", 512)
    with pytest.raises(InvalidValue, match="must have no more than the model's"):
        case.trial().transfer(wrong, old.tokenizer)
    with pytest.raises(InvalidValue, match="multiple must be at least 1"):
        case.trial().transfer(old, old.tokenizer, multiple=0)


def test_a_second_table_of_ids_is_refused(case):
    tokenizer = trained(OLD_TEXT, bos_token="<s>")
    language = model("llama", tokenizer)
    language.model.model.per_layer = nn.Embedding(len(tokenizer), 8)
    with pytest.raises(UnsupportedModel, match="must read ids through one table only"):
        case.trial().transfer(language, tokenizer)


def test_pieces_of_bytes_beside_those_of_characters(case):
    """Where two ids spell the same, only the one that texts use takes the row, and the row that texts used."""
    old = model("gemma2", trained(OLD_TEXT))
    new = described({"▁": 0, "a": 1, "b": 2, "▁a": 3}, [("▁", "a")])
    plan = Transplant.of(old, new)
    assert plan.source[258] == old.tokenizer.convert_tokens_to_ids("a")
    assert plan.source[ord("a") + 1] == IDLE
    assert plan.source[0xE6 + 1] >= 0, "a byte without another piece"
    back = Transplant.of(model("gemma2", new), old.tokenizer)
    assert back.source[old.tokenizer.convert_tokens_to_ids("a")] == 258
    case.trial().transfer(model("gemma2", new), old.tokenizer)


def test_a_learned_table_fits_the_same_base(old, new):
    done = Doubled().build(width=matrices_of(old.model).input.shape[1]).transfer(old, new)
    assert isinstance(Doubled(), EmbeddingTable)
    assert logits(done, [[1, 2, 3]]).isfinite().all()


@dataclass(eq=False, repr=False, kw_only=True)
class Doubled(Learned, EmbeddingTable):
    """A table with a parameter, as a trained method would have."""

    card: ClassVar[Card] = Card(title="t", year=2026, url="https://example.org", summary="s", training=True)
    times: int = positive(2, doc="how often")

    def make(self, *, width: int) -> None:
        self.scale = nn.Parameter(torch.ones(width))

    def table(self, pieces, donor):
        made = mean(donor.cut(pieces)).rows(donor, pieces, 0)
        output = made.output
        return Rows(self.times * self.scale * made.input, None if output is None else self.times * output)


def _no_pieces():
    from tokenizers import models

    return models.BPE()
