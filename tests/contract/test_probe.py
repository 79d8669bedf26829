"""Every probe, found through the registry: it looks, reports in a form of its own, and changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.compress.compress_rows import characters
from tests.contract.cases import cases
from tests.tinies import STRUCTURES, shared
from tokenry.core.errors import InvalidValue
from tokenry.core.tokens import TokenBatch
from tokenry.models.attention.site import Site
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.probe.reports.report import Report

METHODS = cases("probe")


@pytest.fixture(params=STRUCTURES)
def model(request) -> LanguageModel:
    return LanguageModel(shared(request.param), characters(), "tiny", 512)


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    return request.param


def rows(count=2, n=41, pad=9) -> TokenBatch:
    ids = torch.randint(3, 128, (count, n), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1:, :pad] = False
    return TokenBatch.from_ids(ids.masked_fill(~mask, 0), mask)


def condition(network) -> list:
    """All of a network that a probe must not change."""
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) + len(m._backward_hooks) for m in network.modules()]
    parameters = [(p.requires_grad, p.grad is None, p._version, float(p.detach().sum())) for p in network.parameters()]
    return [
        hooks, parameters, [set(vars(m)) for m in network.modules()], [m.training for m in network.modules()],
        network.config._attn_implementation, json.dumps(network.config.to_dict(), default=str),
    ]  # fmt: skip


def same(a: Report, b: Report, tolerance=2e-5) -> None:
    assert list(a.tables) == list(b.tables)
    for name in a.tables:
        torch.testing.assert_close(a[name], b[name], atol=tolerance, rtol=1e-4, equal_nan=True)


def test_report_is_whole(case, model):
    """Tables name their axes, and the report becomes one JSON document and a picture."""
    report = case.trial().look(model, rows())
    assert report.tables
    assert all(sentence.endswith(".") for sentence in report.said)
    for table in report.tables.values():
        assert table.about == table.about.strip(".")
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(found) == {"schema", "probe", "summary", "tables"}
    assert set(found["tables"]) == set(report.tables)
    assert report.summary().splitlines() == found["summary"]
    assert report.plot().axes


def test_changes_nothing(case):
    network = tiny("llama").train()
    language = LanguageModel(network, characters(), "tiny", 512)
    tokens = rows()
    case.trial().look(language, tokens)  # what is learnt of a model once is kept elsewhere
    before, ids, state = condition(network), tokens.ids.clone(), torch.get_rng_state()
    case.trial().look(language, tokens)
    assert condition(network) == before
    assert torch.equal(tokens.ids, ids)
    assert torch.equal(torch.get_rng_state(), state)


def test_changes_nothing_at_first_sight(case):
    network = tiny("qwen3").train()
    before = condition(network)
    case.trial().look(LanguageModel(network, characters(), "tiny", 512), rows())
    assert condition(network) == before


def test_changes_nothing_after_an_error(case, request, monkeypatch):
    network = tiny("llama").train()
    language = LanguageModel(network, characters(), "tiny", 512)
    case.trial().look(language, rows())
    before = condition(network)

    def fails(site, *_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Site, "logits", fails)
    monkeypatch.setattr(Site, "dense", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        case.trial().look(language, rows())
    assert condition(network) == before


def test_the_same_again(case, model):
    same(case.trial().look(model, rows()), case.trial().look(model, rows()), tolerance=0)


def test_training_mode_does_not_matter(case):
    network = tiny("llama", attention_dropout=0.5)
    language = LanguageModel(network, characters(), "tiny", 512)
    quiet = case.trial().look(language, rows())
    network.train()
    same(case.trial().look(language, rows()), quiet, tolerance=0)


def test_padding_changes_nothing(case, model):
    """Columns of padding before all rows add nothing to any number."""
    tokens = rows()
    n = tokens.shape[1]
    wide = tokens.take(torch.cat((torch.full((2, 5), -1), torch.arange(n).expand(2, -1)), 1))
    wide = replace(wide, positions=torch.nn.functional.pad(tokens.positions, (5, 0)))
    same(case.trial().look(model, wide), case.trial().look(model, tokens))


def test_short_rows(case, model):
    for n in (1, 2, 3):
        report = case.trial().look(model, TokenBatch.from_ids(torch.full((2, n), 5)))
        assert report.to_dict()["tables"]


def test_bfloat16(case):
    language = LanguageModel(tiny("llama").to(torch.bfloat16), characters(), "tiny", 512)
    report = case.trial().look(language, rows())
    assert any(bool(table.values.isfinite().any()) for table in report.tables.values())


def test_what_cannot_be_looked_at_is_refused(case, model):
    padding = TokenBatch.from_ids(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.bool))
    with pytest.raises(InvalidValue, match="must hold a token"):
        case.trial().look(model, padding)
    with pytest.raises(InvalidValue, match="must be a network"):
        case.trial().look("smollm2", rows())
    with pytest.raises(InvalidValue, match="got 0"):
        case.trial().look(model, {})
    if not case.method.compares:
        with pytest.raises(InvalidValue, match="one batch"):
            case.trial().look(model, {"a": rows(), "b": rows()})
