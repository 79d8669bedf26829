"""Active-dormant heads: the task, the toy, and that what is streamed is what the full maps say."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.functional import cross_entropy

from tokenry.core.errors import ContextOverflow, InvalidValue, StorageError, UnsupportedModel
from tokenry.core.schooling import Schooling
from tokenry.core.tokens import TokenBatch
from tokenry.data import read
from tokenry.data.tasks.bigram_backcopy import BigramBackcopy
from tokenry.models.attention import site
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.name import cache_of
from tokenry.models.files.tiny import tiny
from tokenry.models.text.begin import begin_mark
from tokenry.probe.active_dormant import ActiveDormant
from tokenry.probe.bigram.toy import BigramToy
from tokenry.probe.bigram.training import train
from tokenry.probe.views import losses as losses_of
from tokenry.probe.views.losses import losses, silenced, weighed
from tokenry.probe.views.rows import begun, cut, first_columns
from tokenry.probe.views.sight import sight
from tokenry.probe.views.weights import circuit, relu_by_row

WHOLE_MAPS = ("llama", "qwen3", "gemma3_text", "mistral", "gpt2", "gemma2", "gpt_oss")
"""Grouped heads, sliding windows, learned positions, a cap on logits, learned sinks."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=41, pad=9) -> TokenBatch:
    ids = torch.randint(3, 128, (3, n), generator=generator(1))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :pad] = mask[2, : n - 3] = False
    return TokenBatch.from_ids(ids.masked_fill(~mask, 0), mask)


def inputs(batch: TokenBatch):
    """With positions, which gpt2 counts over padding too where it is not told."""
    return batch.model_inputs() | {"position_ids": batch.positions[0]}


@pytest.fixture(scope="module")
def data():
    return BigramBackcopy.of_text(read("moby_dick"))


class TestTask:
    def test_the_copy_rule_holds_at_every_trigger(self, data):
        ids = data.sample(200, 128, generator())
        active = data.active(ids)
        assert bool((ids[:, 0] == data.begin).all())
        assert not bool(active[:, :2].any())
        at = active[:, 1:-1]
        assert at.float().mean() > 0.1
        assert torch.equal(ids[:, 2:][at], ids[:, :-2][at])
        assert not bool((active[:, 1:] & active[:, :-1]).any()), "no two triggers stand together"

    def test_elsewhere_symbols_follow_as_in_the_text(self, data):
        ids = data.sample(2000, 128, generator())
        dormant = ~data.active(ids)[:, 1:-1]
        now, following = ids[:, 1:-1][dormant], ids[:, 2:][dormant]
        size = len(data.symbols)
        counts = (now * size + following).bincount(minlength=size**2).view(size, size).double()
        total = counts.sum(1, keepdim=True)
        expected = total * data.bigram
        deviation = (expected * (1 - data.bigram)).sqrt()
        assert bool((counts[expected == 0] == 0).all())
        common = (expected > 20) & (data.bigram < 1)
        assert common.sum() > 300
        score = ((counts - expected) / deviation)[common]
        assert score.abs().max() < 6
        assert abs(score.std().item() - 1) < 0.1

    def test_bigrams_are_counted(self):
        data = BigramBackcopy.of_text("abaabb", triggers=1)
        assert data.symbols == "ab"
        assert data.triggers == (0,)
        torch.testing.assert_close(data.unigram, torch.tensor([0.5, 0.5], dtype=torch.double))
        expected = torch.tensor([[1, 2], [2, 1]], dtype=torch.double) / 3
        torch.testing.assert_close(data.bigram, expected)

    @pytest.mark.parametrize("copy", [0.0, 0.3, 1.0])
    def test_copies_come_with_their_probability(self, copy):
        data = BigramBackcopy.of_text(read("moby_dick"), copy=copy)
        ids = data.sample(400, 128, generator())
        at = data.active(ids)[:, 1:-1]
        before, now, following = ids[:, :-2][at], ids[:, 1:-1][at], ids[:, 2:][at]
        real = before < data.begin
        before, now, following = before[real], now[real], following[real]
        by_chance = data.bigram[now, before].mean()
        share = (before == following).double().mean()
        assert abs(share - (copy + (1 - copy) * by_chance)) < 0.02

    def test_the_least_loss_is_that_of_the_source(self, data):
        mixed = BigramBackcopy.of_text(read("moby_dick"), copy=0.5)
        for source in (data, mixed):
            ids = source.sample(3, 20, generator())
            least = source.least(ids)
            assert bool(least[:, -1].isnan().all())
            for row, found in zip(ids.tolist(), least.tolist(), strict=True):
                for t in range(1, 19):
                    p = float(source.bigram[row[t], row[t + 1]])
                    if row[t] in source.triggers:
                        p = source.copy * (row[t + 1] == row[t - 1]) + (1 - source.copy) * p
                    assert found[t] == pytest.approx(-torch.tensor(p).log().item(), abs=1e-6)

    def test_the_same_seed_gives_the_same_rows(self, data):
        state = torch.get_rng_state()
        assert torch.equal(data.sample(4, 30, generator(3)), data.sample(4, 30, generator(3)))
        assert not torch.equal(data.sample(4, 30, generator(3)), data.sample(4, 30, generator(4)))
        assert torch.equal(torch.get_rng_state(), state)

    def test_what_makes_no_source_is_refused(self, data):
        for text, triggers in (("", 3), ("abc", 3), ("abc", -1)):
            with pytest.raises(InvalidValue, match="text must have more than"):
                BigramBackcopy.of_text(text, triggers=triggers)
        with pytest.raises(InvalidValue, match=r"copy must be in \[0, 1\]"):
            BigramBackcopy.of_text("abcd", triggers=1, copy=1.5)
        with pytest.raises(InvalidValue, match="sample needs a row and 3 ids"):
            data.sample(1, 2, generator())


class TestSight:
    @pytest.mark.parametrize("family", WHOLE_MAPS)
    def test_streamed_numbers_are_those_of_whole_maps(self, family, monkeypatch):
        """In slices of few queries and of single rows, against the maps that transformers gives."""
        network, batch = tiny(family), rows()
        monkeypatch.setattr(site, "PROBABILITIES", 4 * 41 * 5)
        monkeypatch.setattr(losses_of, "LOGITS", 41 * 128 * 2)
        seen = sight(network, batch)
        network.set_attn_implementation("eager")
        out = network(**inputs(batch), output_attentions=True, output_hidden_states=True, use_cache=False)
        first, real = first_columns(batch), batch.mask
        for layer, maps in enumerate(out.attentions):
            for row, at in enumerate(first.tolist()):
                mine, whole = seen.sink[layer, row], maps[row, :, :, at].detach()
                torch.testing.assert_close(mine[:, real[row]], whole[:, real[row]], atol=1e-6, rtol=1e-5)
                logits = maps[row].detach().clamp_min(1e-30).log()
                self.check_lead(seen.lead[layer, row], logits, at, real[row])
        for layer, states in enumerate(out.hidden_states[1:-1]):
            torch.testing.assert_close(seen.states[layer][real], states.norm(dim=-1)[real], atol=1e-4, rtol=1e-4)
        assert seen.states.shape[0] == len(out.hidden_states) - 1

    def check_lead(self, lead, logits, first, real):
        """Differences of logits are differences of the logarithms of probabilities."""
        for q in real.nonzero()[:, 0].tolist():
            keys = [k for k in range(first + 1, q + 1) if logits[0, q, k] > -60]
            if not keys or logits[0, q, first] < -60:
                assert bool(lead[:, q].isnan().all())
                continue
            expected = logits[:, q, first] - logits[:, q, keys].mean(-1)
            torch.testing.assert_close(lead[:, q], expected, atol=1e-4, rtol=1e-3)

    @pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
    def test_values_are_those_of_the_cache(self, family):
        network, batch = tiny(family), rows()
        seen = sight(network, batch)
        cache = cache_of(network(**inputs(batch), use_cache=True))
        for layer, held in enumerate(cache.layers):
            norms = held.values.detach().norm(dim=-1)
            for row in range(3):
                real = batch.mask[row]
                torch.testing.assert_close(seen.values[layer, row][:, real], norms[row][:, real], atol=1e-5, rtol=1e-4)

    def test_reductions_by_hand(self):
        """Means over counted queries, medians over the other tokens, of a report against loops."""
        network, batch = tiny("llama"), rows()
        report = ActiveDormant(skip=4, begin=False, ablate=0).look(network, batch)
        network.set_attn_implementation("eager")
        out = network(**inputs(batch), output_attentions=True, output_hidden_states=True, use_cache=False)
        first = first_columns(batch).tolist()
        for layer, maps in enumerate(out.attentions):
            picked = [maps[r, :, q, first[r]] for r in range(3) for q in range(first[r] + 4, 41)]
            torch.testing.assert_close(report["sink"][0, layer], torch.stack(picked).mean(0), atol=1e-6, rtol=1e-5)
        states = out.hidden_states[1].norm(dim=-1)
        peaks = [states[r, first[r]] / states[r, first[r] + 1 :].median() for r in range(3)]
        torch.testing.assert_close(report["residual_peak"][0, 0], torch.stack(peaks).mean())

    def test_loss_is_that_of_transformers(self):
        network, batch = tiny("llama"), rows()
        labels = batch.ids.masked_fill(~batch.mask, -100)
        labels[torch.arange(3), first_columns(batch)] = -100
        expected = network(**inputs(batch), labels=labels).loss
        torch.testing.assert_close(losses(network, batch).nanmean(), expected, atol=1e-5, rtol=1e-5)


class TestAblation:
    @pytest.mark.parametrize(("layer", "head"), [(0, 0), (1, 3), (2, 2)])
    def test_silence_is_zeroing_by_hand(self, layer, head):
        network, batch = tiny("llama"), rows()
        found = losses(network, batch, silenced(layer, head))

        def zero(_, args):
            mixed = args[0].clone()
            mixed[..., head * 16 : (head + 1) * 16] = 0
            return (mixed,)

        hook = network.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(zero)
        logits = network(**inputs(batch)).logits
        hook.remove()
        expected = cross_entropy(logits[:, :-1].mT, batch.ids[:, 1:], reduction="none")
        real = ~found.isnan()
        torch.testing.assert_close(found[real], torch.nn.functional.pad(expected, (0, 1))[real], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(found[real], losses(network, batch)[real], atol=1e-5)

    def test_the_report_silences_what_differs_most(self):
        network = tiny("llama")
        domains = {"a": rows(), "b": TokenBatch.from_ids(rows().ids.clamp_min(3).flip(1))}
        report = ActiveDormant(skip=2, ablate=3).look(network, domains)
        order = report["difference"].flatten().argsort(descending=True)[:3].tolist()
        assert report.tables["ablation"].named("head") == tuple(f"{i // 4}.{i % 4}" for i in order)
        assert report["ablation"].shape == (3, 2)
        torch.testing.assert_close(report["difference"], (report["sink"][0] - report["sink"][1]).abs())
        layer, head = divmod(order[0], 4)
        batch = begun(domains["b"], begin_mark(network))
        counted = torch.arange(batch.shape[1]) >= 2
        change = (losses(network, batch, silenced(layer, head)) - losses(network, batch))[:, counted].nanmean()
        torch.testing.assert_close(report["ablation"][0, 1], change, atol=1e-6, rtol=1e-4)


class TestRows:
    def test_the_mark_comes_before_rows_that_lack_it(self):
        ids = torch.tensor([[0, 5, 6, 7], [1, 5, 6, 7], [0, 0, 0, 9]])
        marked = begun(TokenBatch.from_ids(ids, ids > 0), 1)
        assert marked.ids.tolist() == [[0, 1, 5, 6, 7], [0, 1, 5, 6, 7], [0, 0, 0, 1, 9]]
        assert torch.equal(marked.mask, marked.ids > 0)
        assert begun(marked, 1) is marked
        assert begun(marked, None) is marked

    def test_the_mark_of_a_model(self):
        assert begin_mark(tiny("llama")) == 1
        assert begin_mark(tiny("llama", bos_token_id=None, eos_token_id=7)) == 7
        assert begin_mark(tiny("llama", bos_token_id=None)) is None

    def test_texts_are_cut_evenly(self):
        ids = torch.arange(3, 33)[None]
        parts = cut([TokenBatch.from_ids(ids), TokenBatch.from_ids(ids[:, :4])], 8, 2)
        assert parts.ids[:, -4:].tolist() == [[7, 8, 9, 10], [23, 24, 25, 26]]
        assert parts.lengths.tolist() == [8, 8]
        assert cut([TokenBatch.from_ids(ids[:, :4])], 8, 5).lengths.tolist() == [4]

    def test_embeddings_are_refused(self):
        batch = rows()
        soft = batch.insert(0, torch.zeros(3, 1, 64), lookup=tiny("llama").get_input_embeddings())
        with pytest.raises(InvalidValue, match="must have an id for every token"):
            ActiveDormant().look(tiny("llama"), soft)

    def test_positions_are_those_of_real_tokens(self):
        """Also in a model that counts padding as text where it is not told."""
        network, batch = tiny("gpt2"), rows()
        alone = TokenBatch.from_ids(batch.ids[1:2, 9:])
        torch.testing.assert_close(losses(network, batch)[1, 9:], losses(network, alone)[0], equal_nan=True)

    def test_rows_beyond_the_context_are_refused(self):
        with pytest.raises(ContextOverflow, match="must fit into a context of 24 tokens; got 42"):
            ActiveDormant().look(tiny("gpt2", n_positions=24), rows())

    def test_a_model_without_logits_is_refused(self):
        with pytest.raises(UnsupportedModel):
            ActiveDormant().look(tiny("bert"), rows())


class TestToy:
    def test_relu_weights_by_hand(self):
        network, batch = tiny("llama"), rows()
        found = []

        def attend(at):
            weights = relu_by_row(at)
            found.append((weights, at))
            return at.dense()

        with ModelAdapter.of(network).attached_to(lambda _: attend):
            network(**inputs(batch), use_cache=False)
        weights, at = found[0]
        weights, q, k = weights.detach(), at.q.detach(), at.k.detach().repeat_interleave(2, 1)
        first = first_columns(batch).tolist()
        for row, head, query in ((0, 0, 40), (1, 3, 20), (2, 1, 39)):
            for key in range(41):
                logit = float(q[row, head, query] @ k[row, head, key]) * at.scale
                sees = first[row] <= key <= query
                expected = max(logit, 0.0) / (query - first[row] + 1) if sees else 0.0
                assert float(weights[row, head, query, key]) == pytest.approx(expected, abs=1e-5)

    def test_the_circuit_reads_one_token(self):
        active = torch.tensor([[False, False, True, False], [False, False, False, True]])
        four = torch.zeros(2, 1, 4, 8)
        at = site.Site(layer=0, q=four, k=four, v=four, scale=1.0, facts=None)
        weights = circuit(active, torch.tensor([0, 1]))(at)
        assert torch.equal(weights[:, 0].argmax(-1), torch.tensor([[0, 0, 1, 0], [1, 1, 1, 2]]))
        assert bool((weights.sum(-1) == 1).all())

    @pytest.mark.parametrize("attention", ["softmax", "relu"])
    def test_saved_and_loaded(self, data, tmp_path, attention):
        toy = BigramToy.of(data, layers=2, width=16, attention=attention)
        toy.save(tmp_path / "toy")
        again = BigramToy.load(tmp_path / "toy")
        batch = TokenBatch.from_ids(data.sample(4, 64, generator()))
        a, b = (ActiveDormant().look(t, batch) for t in (toy, again))
        assert a.tables["sink"].named("group") == ("dormant", "active")
        assert json.dumps(a.to_dict()) == json.dumps(b.to_dict())
        assert torch.equal(again.data.sample(2, 9, generator()), data.sample(2, 9, generator()))

    def test_groups_are_triggers_and_the_rest(self, data):
        toy = BigramToy.of(data, width=16)
        batch = TokenBatch.from_ids(data.sample(6, 64, generator()))
        report = ActiveDormant(ablate=1).look(toy, batch)
        seen = sight(toy.model, batch)
        active = data.active(batch.ids)[:, 32:]
        sink = seen.sink[0, :, 0, 32:]
        torch.testing.assert_close(report["sink"][:, 0, 0], torch.stack((sink[~active].mean(), sink[active].mean())))

    def test_sizes_are_bounded(self, data):
        for settings in ({"layers": 9}, {"width": 4096}, {"length": 1 << 20}, {"attention": "linear"}, {"family": "x"}):
            with pytest.raises(InvalidValue, match="must be"):
                BigramToy.of(data, **settings)

    def test_training_goes_on_where_it_stopped(self, data, tmp_path):
        how = Schooling(batch=4, every=3)
        settings = {"layers": 1, "width": 16, "length": 24}
        whole, log = train(data, 6, tmp_path / "a", how, **settings)
        train(data, 3, tmp_path / "b", how, **settings)
        parts, again = train(data, 6, tmp_path / "b", how, **settings)
        assert log == again
        assert [entry["step"] for entry in log] == [0, 3, 6]
        for name, value in whole.state_dict().items():
            assert torch.equal(value, parts.state_dict()[name])
        kept = {str(f.relative_to(tmp_path / "a")) for f in (tmp_path / "a").rglob("*") if f.is_file()}
        assert kept == {"training.json", "optimizer.safetensors", "toy/method.json", "toy/method.safetensors"}

    def test_another_training_is_refused(self, data, tmp_path):
        settings = {"width": 16, "length": 24}
        train(data, 1, tmp_path, Schooling(batch=4, optimizer="sgd", rate=0.1), **settings)
        with pytest.raises(StorageError, match="trained in the same way"):
            train(data, 2, tmp_path, Schooling(batch=4), **settings)
        (tmp_path / "optimizer.safetensors").write_bytes(b"nothing")
        with pytest.raises(StorageError, match="state of the optimizer"):
            train(data, 2, tmp_path, Schooling(batch=4, optimizer="sgd", rate=0.1), **settings)
        with pytest.raises(InvalidValue, match="optimizer must be one of adam, sgd"):
            Schooling(optimizer="lion")
        with pytest.raises(InvalidValue, match="rate must be above 0"):
            Schooling(rate=0.0)


@pytest.fixture(scope="module")
def trained(data):
    # The sink of seed 0 still comes and goes after 2000 steps; the benchmark shows both.
    toy, _ = train(data, 2000, how=Schooling(seed=1))
    batch = TokenBatch.from_ids(data.sample(128, 64, generator(7)))
    return toy, batch, ActiveDormant(ablate=1).look(toy, batch)


@pytest.mark.slow
@pytest.mark.claim
class TestEffects:
    def test_a_trained_head_sleeps_but_at_triggers(self, data, trained):
        _, batch, report = trained
        dormant, active = report["sink"][:, 0, 0].tolist()
        assert dormant > 0.8
        assert active < 0.1
        assert report["value_ratio"].item() < 0.5
        untrained = ActiveDormant(ablate=0).look(BigramToy.of(data), batch)
        assert untrained["sink"].max() < 0.1
        # Without its head it cannot copy, and loses little elsewhere.
        change = report["ablation"][0].tolist()
        assert change[1] > 2 > 0.2 > change[0]

    def test_the_explicit_circuit_is_what_it_learnt(self, data, trained):
        toy, batch, _ = trained
        active, first = data.active(batch.ids), first_columns(batch)
        by_hand = losses(toy.model, batch, weighed(lambda rows: circuit(active[rows], first[rows])))
        own = losses(toy.model, batch)
        # Behind a symbol that the text has once or twice the head does what it likes.
        common = torch.cat((data.unigram, torch.zeros(1)))[batch.ids] > 1e-3
        for kind in (active, ~active):
            counted = kind & common & ~own.isnan() & (torch.arange(64) >= 32)
            assert abs(by_hand[counted].mean() - own[counted].mean()) < 0.05
            assert abs(own[counted].mean() - data.least(batch.ids)[counted].mean()) < 0.05

    def test_relu_leaves_no_sink(self, data):
        toy, log = train(data, 600, attention="relu")
        batch = TokenBatch.from_ids(data.sample(128, 64, generator(7)))
        report = ActiveDormant(ablate=0).look(toy, batch)
        assert report["sink"].max() < 0.1
        assert report["loss"][1] < 0.1
        assert log[-1]["step"] == 600

    def test_smollm2_has_sinks_drains_and_peaks(self, smollm2):
        ids = smollm2.tokenizer(read("sotu_1975")[:3000], return_tensors="pt")["input_ids"][:, :512]
        report = ActiveDormant(ablate=0).look(smollm2, TokenBatch.from_ids(ids.view(2, -1)))
        assert int((report["sink"] > 0.3).sum()) > 90
        assert report["value_ratio"].median() < 0.5
        assert report["residual_peak"].max() > 100
