"""STILL on tiny models: its equation token by token, what is kept and what is folded, and real memory."""

from __future__ import annotations

import json

import pytest
import torch

from tests.soft.soft_prompts import language
from tests.tinies import shared
from tokenry import Still
from tokenry.attend.linearising import teaching
from tokenry.attend.linearising.folded import Folded
from tokenry.attend.linearising.teaching import distance, distil, lessons, tune
from tokenry.attend.parts.feature_map import Hedgehog, NormPreserving
from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.core.learned import Unbuilt
from tokenry.core.schooling import Schooling
from tokenry.models.cache.name import NAME as CACHE
from tokenry.models.files.tiny import tiny

C, LAYERS = 8, (0, 2)
FAMILIES = ["llama", "qwen3"]
PADDING = 13


def begun(model, **settings) -> Still:
    method = Still.begun(model, LAYERS, **{"chunk": C, "share": 0.25, **settings})
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in method.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
    return method


def rows(tokens=50):
    ids = torch.randint(3, 128, (2, tokens), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :PADDING] = 0
    return ids, mask


def read(model, method, sizes=(1 << 20,), cache=True, only=slice(None)):
    """Logits of two rows, the second one padded, read in pieces."""
    ids, mask = (t[only] for t in rows())
    places = (mask.cumsum(1) - 1).clamp_min(0)
    found, held, low = [], None, 0
    with torch.no_grad(), method(model):
        for size in sizes:
            some = slice(low, min(low + size, ids.shape[1]))
            out = model(
                input_ids=ids[:, some], attention_mask=mask[:, : some.stop], position_ids=places[:, some],
                use_cache=cache, **{CACHE: held},
            )  # fmt: skip
            found.append(out.logits)
            held, low = out.get(CACHE), some.stop
    return torch.cat(found, 1), held


def dense(model):
    ids, mask = rows()
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0)).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_everything_is_softmax_attention(family):
    model = shared(family)
    found, _ = read(model, begun(model, share=1.0))
    torch.testing.assert_close(found, dense(model))
    assert not torch.allclose(read(model, begun(model))[0], dense(model), atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [{}, {"share": 0.0}, {"choose": "random"}, {"shift": "both", "map": "hedgehog"}],
                         ids=str)  # fmt: skip
def test_in_pieces_token_by_token_and_without_a_cache_are_the_same(family, settings):
    model = shared(family)
    method = begun(model, **settings)
    whole, _ = read(model, method)
    real = rows()[1].bool()
    for sizes in ((20, 11, *[1] * 19), (3, 30, 17), (16, 16, 18)):
        torch.testing.assert_close(read(model, method, sizes)[0][real], whole[real], atol=1e-5, rtol=1e-4)
    with pytest.warns(Warning, match="without a cache to act on"):
        alone, _ = read(model, method, cache=False)
    torch.testing.assert_close(alone[real], whole[real], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_gives_the_same_alone_and_padded(family):
    model = shared(family)
    method = begun(model)
    whole, _ = read(model, method)
    ids, _ = rows()
    with torch.no_grad(), method(model):
        alone = model(input_ids=ids[1:, PADDING:]).logits
    torch.testing.assert_close(whole[1:, PADDING:], alone, atol=1e-5, rtol=1e-4)


def lesson(method, model, tokens=45):
    return lessons(method, model, [rows(tokens)[0]])[0][0]


def by_equation(method, site, hidden):
    """Token by token in double precision, head by head."""
    own = method.of_layer["0"].double()
    q, k, v = site.q.double(), site.k.double(), site.v.double()
    b, h, n, d = q.shape
    groups = h // k.shape[1]
    gate = own["gate"](hidden.double()).sigmoid().unflatten(-1, (h, d))
    fq, fk = own["q"](q), own["k"](k)
    out, kept, folded = torch.zeros_like(q), {}, {}
    for i in range(b):
        for g in range(k.shape[1]):
            leans = torch.zeros(n, dtype=torch.double)
            for t in range(n):
                low = max(0, t - C + 1)
                for e in range(groups):
                    s = k[i, g, low : t + 1] @ q[i, g * groups + e, t] * site.scale
                    a = s.softmax(0)
                    bare = torch.zeros_like(a)
                    if len(s) > 1:
                        bare[:-1] = s[:-1].softmax(0)
                    leans[t] += (a * ((a + 1e-8) / (bare + 1e-8)).log()).sum() / groups
            for t in range(n):
                c = t // C
                older = range(max(0, c - 1) * C)
                chunks = [torch.arange(j * C, (j + 1) * C) for j in range(max(0, c - 1))]
                stay = {int(x) for one in chunks for x in one[leans[one].topk(method.kept).indices]}
                exact = sorted(stay) + list(range(max(0, c - 1) * C, t + 1))
                rest = [j for j in older if j not in stay]
                kept[i, g, t], folded[i, g, t] = exact, rest
                for e in range(groups):
                    x = g * groups + e
                    s = k[i, g, exact] @ q[i, x, t] * site.scale
                    w = (s - s.max()).exp()
                    f = fk[i, g, rest] @ fq[i, x, t]
                    above = w @ v[i, g, exact] + gate[i, t, x] * (f @ v[i, g, rest])
                    out[i, x, t] = above / (w.sum() + f.sum())
    return out, kept, folded


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_equation(family):
    model = shared(family)
    method = begun(model)
    site, _ = lesson(method, model)
    found = method.read(site, Folded())
    wanted, kept, folded = by_equation(method, site, site.hidden)
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-4)
    for key, exact in kept.items():
        assert sorted(exact + folded[key]) == list(range(key[2] + 1))


@torch.no_grad()
def test_with_a_closed_gate_and_nothing_folded_it_is_softmax_over_what_is_held():
    """What a closed gate leaves is divided by both parts; where nothing is folded yet, by the exact one alone."""
    model = shared("llama")
    method = begun(model)
    site, out = lesson(method, model, 2 * C)
    for p in method.of_layer["0"]["gate"].parameters():
        p.zero_()
    method.of_layer["0"]["gate"].bias.fill_(-200.0)
    torch.testing.assert_close(method.read(site, Folded()), out, atol=1e-5, rtol=1e-4)
    site, _ = lesson(method, model)
    wanted, _, _ = by_equation(method, site, site.hidden)
    torch.testing.assert_close(method.float().read(site, Folded()).double(), wanted, atol=1e-5, rtol=1e-4)


def test_the_first_chunk_sees_nothing_before_it():
    model = shared("llama")
    method = begun(model, share=0.0)
    site, out = lesson(method, model)
    torch.testing.assert_close(method.read(site, Folded())[:, :, : 2 * C], out[:, :, : 2 * C], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_maps_keep_norms_and_are_positive():
    x = torch.randn(2, 3, 5, 8)
    keeps = NormPreserving().build(heads=3, width=8)
    keeps.weight += torch.randn_like(keeps.weight)
    torch.testing.assert_close(keeps.mapped(x).norm(dim=-1), x.norm(dim=-1))
    free = Hedgehog().build(heads=3, width=8)
    free.weight += torch.randn_like(free.weight)
    assert not torch.allclose(free.mapped(x).norm(dim=-1), x.norm(dim=-1), atol=0.1)
    for part in (keeps, free):
        features = part(100 * x)
        assert features.shape == (2, 3, 5, 16)
        assert float(features.min()) > 0


@torch.no_grad()
def test_what_is_folded_is_freed_while_a_model_generates():
    model = shared("llama")
    method = begun(model)
    ids, _ = rows(40)
    with method(model):
        out = model.generate(
            input_ids=ids, max_new_tokens=33, do_sample=False, return_dict_in_generate=True,
            attention_mask=torch.ones_like(ids),
        )  # fmt: skip
    buffers = out[CACHE].layers
    seen = 72
    window = seen - (seen // C - 1) * C
    assert [b.held for b in buffers] == [(seen // C - 1) * 2 + window, seen, (seen // C - 1) * 2 + window]
    assert buffers[0].allocated_bytes < buffers[1].allocated_bytes
    state = buffers[0].states[0]
    assert state.cross.shape == (2, 2, 32, 16)
    assert state.scores.shape[-1] == window
    again = out.sequences[:, :40], out.sequences[:, 40:]
    with method(model):
        logits = model(input_ids=out.sequences[:, :-1]).logits[:, 39:]
    assert torch.equal(logits.argmax(-1), again[1])


@torch.no_grad()
def test_beams_and_taking_tokens_back():
    model = shared("llama")
    method = begun(model)
    ids, _ = rows(40)
    mask = torch.ones_like(ids)
    with method(model):
        beams = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, num_beams=3, do_sample=False)
    with method(model):
        alone = model.generate(input_ids=ids[:1], attention_mask=mask[:1], max_new_tokens=6, num_beams=3,
                               do_sample=False)  # fmt: skip
    assert torch.equal(beams[:1], alone)
    with method(model, prompt_tokens=40):
        out = model(input_ids=ids)
        cache = out[CACHE]
        following = torch.randint(3, 128, (2, 4), generator=torch.Generator().manual_seed(1))
        cache.activate_past_recording()
        tried = model(input_ids=following, **{CACHE: cache}).logits
        cache.crop(-4)
        torch.testing.assert_close(model(input_ids=following, **{CACHE: cache}).logits, tried)
        cache.crop(-30)
        with pytest.raises(Incompatible, match="a crop must leave what was seen when tokens were last folded"):
            model(input_ids=following, **{CACHE: cache})


def test_saved_and_loaded_are_equal(tmp_path):
    model = shared("llama")
    method = begun(model)
    method.save(tmp_path / "still")
    again = Still.load(tmp_path / "still")
    assert torch.equal(read(model, method)[0], read(model, again)[0])


@torch.no_grad()
def test_bfloat16():
    model = tiny("llama").to(torch.bfloat16)
    method = begun(model).to(torch.bfloat16)
    found, _ = read(model, method, (20, *[1] * 30))
    wide = tiny("llama")
    wide.load_state_dict({n: t.float() for n, t in model.state_dict().items()})
    wanted, _ = read(wide, method.float(), (20, *[1] * 30))
    real = rows()[1].bool()
    assert float((found.float() - wanted)[real].norm() / wanted[real].norm()) < 0.05


def test_maps_learn_what_attention_says_and_gates_rest(tmp_path):
    model = tiny("llama")
    method = Still.begun(model, LAYERS, chunk=C, share=0.25)
    taught = lessons(method, model, [rows(40)[0]])
    gates = [own["gate"].bias.clone() for own in method.of_layer.values()]
    how = Schooling(rate=1e-2, every=4)
    first, log = distil(method, taught, 12, how=how, test=taught)
    assert log[-1]["distance"] < log[0]["distance"]
    assert all(torch.equal(a, b["gate"].bias) for a, b in zip(gates, first.of_layer.values(), strict=True))
    for steps in (4, 12):
        fresh = Still.begun(model, LAYERS, chunk=C, share=0.25)
        again, _ = distil(fresh, taught, steps, how=how, folder=tmp_path / "run", test=taught)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert all(p.requires_grad for p in again.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_the_model_learns_around_it():
    pytest.importorskip("peft")
    model = tiny("llama")
    method = Still.begun(model, LAYERS, chunk=C, share=0.25)
    before = {n: p.clone() for n, p in model.named_parameters()}
    wrapped, losses = tune(method, model, [rows(40)[0]], 8, rate=1e-2)
    assert losses[-1] < losses[0]
    merged = wrapped.merge_and_unload()
    changed = {n.split(".")[2] for n, p in merged.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"0", "2"}
    with torch.no_grad():
        assert float(distance(method, lessons(method, merged, [rows(40)[0]])[0])) > 0


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidValue, match="layers must be among 0 to 2; got 5"):
        Still.begun(shared("llama"), (5,))
    with pytest.raises(InvalidValue, match="name at least one"):
        Still.begun(shared("llama"), ())
    with pytest.raises(UnsupportedModel, match=r"layer 0 must have plain attention"):
        Still.begun(shared("mistral"), (0,))
    with pytest.raises(Unbuilt, match="must be begun before 'attend'"), Still(layers=(0,))(shared("llama")):
        shared("llama")(input_ids=rows()[0])
    with pytest.raises(InvalidValue, match="lessons must be at least one"):
        distil(begun(shared("llama")), [], 1)
    for call in (lambda one, ids: distil(one, lessons(one, shared("llama"), [ids]), 1),
                 lambda one, ids: tune(one, shared("llama"), [ids], 1)):  # fmt: skip
        with pytest.raises(InvalidValue, match=f"rows must be longer than two chunks, {2 * C} tokens.*; got {2 * C}"):
            call(begun(shared("llama")), rows(2 * C)[0])


def test_one_command_linearises_layers(tmp_path, monkeypatch, capsys):
    (tmp_path / "text.txt").write_text("The whale is a large animal of the sea. " * 32, encoding="utf-8")
    monkeypatch.setattr(teaching, "load", lambda *_, **__: language())
    given = [
        str(tmp_path / "run"),
        "--layer",
        "0",
        "--text",
        str(tmp_path / "text.txt"),
        "--length",
        "130",
        "--rows",
        "1",
    ]
    for steps in ("1", "2"):
        monkeypatch.setattr("sys.argv", ["teaching", *given, "--steps", steps])
        teaching.main()
        assert json.loads(capsys.readouterr().out)["step"] == int(steps)
    assert Still.load(tmp_path / "run" / "still").layers == (0,)
    for name, value, sentence in (
        ("length", "4000", "text must have at least 8000 tokens"),
        ("length", "128", "rows must be longer than two chunks, 128 tokens"),
        *((name, "0", f"{name} must be at least 1; got 0") for name in ("length", "rows", "steps")),
    ):
        monkeypatch.setattr("sys.argv", ["teaching", *given, f"--{name}", value])
        with pytest.raises(SystemExit, match=sentence):
            teaching.main()
