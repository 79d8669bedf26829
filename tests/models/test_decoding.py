"""The loop inside `generate` is the model's own, whatever a step says, reads ahead, mixes or asks another model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from tokenizers import decoders
from torch import Tensor
from transformers import LlamaForCausalLM, StoppingCriteria

from tests.compress.compress_rows import characters
from tests.padded import padded
from tokenry.attend.token_select import TokenSelect
from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.core.tokens import TokenBatch
from tokenry.decode.base import Decoder, State, Step
from tokenry.models.cache.name import cache_of
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import DECODERS, tiny
from tokenry.models.generate.answer import Sampling, answer, follow
from tokenry.models.generate.session import Session

STEPS = 12
WHOLE = {"max_new_tokens": STEPS, "output_logits": True, "output_scores": True, "return_dict_in_generate": True}


@dataclass(frozen=True, kw_only=True)
class Greedy(Decoder):
    """The most likely token, read as an id or as its embedding."""

    embeds: bool = False
    feeds_embeds = True

    def step(self, view):
        ids = view.scores.argmax(-1)
        return Step(ids=ids, embeds=view.lookup(ids) if self.embeds else None, notes={"hidden": view.logits[:, :1]})


@dataclass(frozen=True, kw_only=True)
class Drafting(Decoder):
    """Draft `width` ids, verify them in one pass, keep those that greedy decoding would have said."""

    draft: Callable[[Tensor, int], Tensor]
    width: int = 3
    bonus: bool = False
    reads_ahead = True

    def step(self, view):
        first = view.scores.argmax(-1, keepdim=True)
        ids = torch.cat((first, self.draft(torch.cat((view.ids, first), 1), self.width)), 1)
        logits = view.session.read(ids)
        best = torch.stack([view.process(ids[:, : i + 1], logits[:, i]).argmax(-1) for i in range(ids.shape[1])], 1)
        right = (best[:, :-1] == ids[:, 1:]).cumprod(1).sum(1)
        keep = 1 + int(right.min())
        view.session.crop(ids.shape[1] - keep)
        said = torch.cat((ids[:, :keep], best[:, keep - 1 : keep]), 1) if self.bonus else ids[:, :keep]
        return Step(ids=said, read=keep, notes={"kept": right})


@dataclass
class Two(State):
    """The other model's session of each row, and how many of the ids it has read."""

    sessions: list[Session] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Routed(Decoder):
    """Ask a second model for the tokens of which the first is not sure."""

    other: Any
    sure: float
    State = Two

    def step(self, view):
        own = view.scores.softmax(-1)
        ids = own.argmax(-1)
        if not view.state.sessions:
            for row in range(len(ids)):
                mask = view.session.mask
                real = slice(None) if mask is None else mask[row, : view.prompt].bool()
                view.state.sessions.append(Session.open(self.other, view.ids[row : row + 1, : view.prompt][:, real]))
        asked = own.amax(-1) < self.sure
        for row in asked.nonzero()[:, 0].tolist():
            session = view.state.sessions[row]
            late = view.ids[row : row + 1, view.prompt + session.read_since_prompt :]
            if late.shape[1]:
                session.read(late)
                session.settle()
            ids[row] = session.logits[0, -1].argmax()
        return Step(ids=ids, notes={"asked": asked})


def one():
    return {"input_ids": padded()["input_ids"][:1]}


def plain(model, inputs, **options):
    return model.generate(**inputs, do_sample=False, **WHOLE, **options)


def equal(a, b, tolerance=None):
    assert torch.equal(a.sequences, b.sequences)
    for name in ("scores", "logits"):
        for x, y in zip(getattr(a, name), getattr(b, name), strict=True):
            torch.testing.assert_close(x, y, rtol=0 if tolerance is None else 1e-4, atol=tolerance or 0)
    assert cache_of(a).get_seq_length() == cache_of(b).get_seq_length()


@pytest.fixture(scope="module", params=sorted(DECODERS))
def family(request):
    return tiny(request.param)


@pytest.fixture(scope="module")
def model():
    return tiny("llama")


@pytest.mark.parametrize("embeds", [False, True], ids=["ids", "embeddings"])
def test_greedy_is_exact_in_every_family(family, embeds):
    """Bit for bit: ids, scores and logits, for both rows."""
    equal(Greedy(embeds=embeds).generate(family, **padded(), **WHOLE), plain(family, padded()))


def test_reading_ahead_and_taking_it_back_is_exact_in_every_family(family):
    """Sliding windows of 16 included, which forget by themselves."""
    wrong = Drafting(draft=lambda ids, n: torch.full((len(ids), n), 5))
    equal(wrong.generate(family, **padded(), **WHOLE), plain(family, padded()), 3e-5)


def test_every_output_of_generate_is_there(model):
    options = {"output_hidden_states": True, "output_attentions": True}
    model.set_attn_implementation("eager")
    ours, theirs = Greedy().generate(model, **padded(), **WHOLE, **options), plain(model, padded(), **options)
    model.set_attn_implementation("sdpa")
    equal(ours, theirs)
    for name in ("hidden_states", "attentions"):
        for x, y in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(x, y, strict=True))
    assert len(ours.notes) == STEPS
    assert torch.equal(
        Greedy().generate(model, **padded(), max_new_tokens=3),
        model.generate(**padded(), do_sample=False, max_new_tokens=3),
    )


@pytest.mark.parametrize(
    "options", [{"min_new_tokens": 6}, {"repetition_penalty": 1.4}, {"suppress_tokens": [7, 9]}, {"max_length": 44}],
    ids=str,
)  # fmt: skip
def test_processors_and_criteria_go_on_working(model, options):
    free = plain(model, padded()).sequences[:, 40:]
    options = {"eos_token_id": [int(free[0, 2]), int(free[1, 5])], **options}
    given = {k: v for k, v in WHOLE.items() if not ("max_length" in options and k == "max_new_tokens")}
    theirs = model.generate(**padded(), do_sample=False, **given, **options)
    for decoder in (Greedy(), Greedy(embeds=True)):
        equal(decoder.generate(model, **padded(), **given, **options), theirs)
    for bonus in (False, True):
        ahead = Drafting(draft=oracle(theirs.sequences), bonus=bonus).generate(model, **padded(), **given, **options)
        # Rows that have ended read drafts where plain generation has them read padding, so only texts are equal.
        assert torch.equal(ahead.sequences, theirs.sequences)
        assert cache_of(ahead).get_seq_length() == cache_of(theirs).get_seq_length()


class Seen(StoppingCriteria):
    def __init__(self, ids):
        self.ids = ids

    def __call__(self, input_ids, scores, **_):
        return input_ids[:, -1] == self.ids


def test_own_stopping_criteria(model):
    free = plain(model, padded()).sequences[:, 40:]
    criteria = {"stopping_criteria": [Seen(torch.stack((free[0, 3], free[1, 6])))]}
    equal(Greedy(embeds=True).generate(model, **padded(), **WHOLE, **criteria), plain(model, padded(), **criteria))


def oracle(sequences):
    """Drafts what stands in `sequences`, then nonsense."""

    def draft(ids, n):
        at = ids.shape[1]
        return torch.nn.functional.pad(sequences[:, at : at + n], (0, n), value=5)[:, :n]

    return draft


@pytest.mark.parametrize("bonus", [False, True])
@pytest.mark.parametrize("inputs", [padded(), one()], ids=["two rows", "one row"])
def test_several_ids_in_one_step(model, inputs, bonus):
    """An oracle's drafts are all kept: fewer steps, the same text, logits and cache."""
    theirs = plain(model, inputs)
    said = Drafting(draft=oracle(theirs.sequences), bonus=bonus).generate(model, **inputs, **WHOLE)
    equal(said, theirs, 3e-5)
    assert len(said.notes) == 3
    half = Drafting(draft=lambda ids, n: oracle(theirs.sequences)(ids, n) + torch.arange(n).ge(1), bonus=bonus)
    equal(half.generate(model, **inputs, **WHOLE), theirs, 3e-5)


def test_drafts_inside_an_attention_method(model):
    with TokenSelect(budget=1000)(model):
        theirs = plain(model, padded())
    with TokenSelect(budget=1000)(model):
        equal(Drafting(draft=oracle(theirs.sequences)).generate(model, **padded(), **WHOLE), theirs, 3e-5)


def test_two_models(model):
    """Never sure is the other model's text, always sure the own one, and the other's cache is kept up to date."""
    other = tiny("llama", seed=1)
    for sure, chosen in ((0.0, model), (1.1, other)):
        said = Routed(other=other, sure=sure).generate(model, **padded(), max_new_tokens=STEPS)
        assert torch.equal(said, chosen.generate(**padded(), do_sample=False, max_new_tokens=STEPS))
    theirs = plain(model, padded())
    sure = float(torch.stack(theirs.scores).softmax(-1).amax(-1).median()) + 1e-6
    same = Routed(other=tiny("llama", seed=0), sure=sure).generate(model, **padded(), **WHOLE)
    equal(same, theirs)
    asked = torch.stack([n["asked"] for n in same.notes])
    assert 0 < int(asked.sum()) < asked.numel()


def test_branches(model):
    """A session goes on in several ways without being changed."""
    inputs = padded()
    with torch.no_grad():
        session = Session.open(model, inputs["input_ids"], inputs["attention_mask"], crops=True)
        ways = torch.randint(3, 128, (6, 4), generator=torch.Generator().manual_seed(2))
        branched = session.repeat(3)
        found = branched.read(ways)
        for i in range(3):
            expected = session.read(ways[i::3])
            torch.testing.assert_close(found[i::3], expected, atol=2e-5, rtol=1e-4)
            session.crop(4)
        whole = model(**inputs).logits[:, -1]
        torch.testing.assert_close(session.logits[:, -1], whole, atol=2e-5, rtol=1e-4)
        assert session.cache.get_seq_length() == 40


def test_hidden_states_are_those_of_what_was_read(model):
    @dataclass(frozen=True, kw_only=True)
    class Looking(Decoder):
        needs_hidden = True

        def step(self, view):
            return Step(ids=view.scores.argmax(-1), notes={"hidden": view.hidden})

    out = Looking().generate(model, **padded(), **WHOLE)
    equal(out, plain(model, padded()))
    assert [n["hidden"].shape[1] for n in out.notes] == [40] + [1] * (STEPS - 1)
    with torch.no_grad():
        logits = model.lm_head(out.notes[4]["hidden"])[:, -1]
    torch.testing.assert_close(logits, out.logits[4], atol=1e-5, rtol=1e-5)


def test_a_step_cannot_take_back_what_was_said(model):
    @dataclass(frozen=True, kw_only=True)
    class Greedy2(Decoder):
        reads_ahead = True

        def step(self, view):
            view.session.crop(1)

    with pytest.raises(InvalidValue, match="must leave something of what was read in this step"):
        Greedy2().generate(model, **padded(), max_new_tokens=2)
    with pytest.raises(Incompatible, match="must be able to forget"), torch.no_grad():
        session = Session.open(model, one()["input_ids"])
        session.read(one()["input_ids"][:, :3])
        session.crop(1)


class TakesMore(LlamaForCausalLM):
    """Adds something to its logits that it knows from ids only."""

    def forward(self, input_ids=None, **more):
        out = super().forward(input_ids=input_ids, **more)
        out["logits"] = out.logits + (input_ids is not None)
        return out


def test_models_that_take_more_from_ids_are_refused(model):
    strange = TakesMore(model.config).eval()
    with pytest.raises(UnsupportedModel, match="must give the same logits"):
        Greedy().generate(strange, **padded(), max_new_tokens=2)


def test_encoder_decoders_are_refused():
    with pytest.raises(UnsupportedModel, match="must have no encoder"):
        Greedy().generate(tiny("t5"), **padded(), max_new_tokens=2)


@dataclass(frozen=True, kw_only=True)
class Hooked(Greedy):
    """Zeroes what the second layer adds to its input, or fails."""

    fails: bool = False

    @contextmanager
    def attached(self, model):
        hook = model.model.layers[1].register_forward_hook(lambda module, args, out: args[0])
        try:
            yield
        finally:
            hook.remove()

    def step(self, view):
        if self.fails and view.step == 2:
            raise RuntimeError("boom")
        return super().step(view)


def test_what_is_attached_holds_for_prompt_and_text_and_then_goes(model):
    before = plain(model, padded())
    ours = Hooked().generate(model, **padded(), **WHOLE)
    with Hooked().attached(model):
        equal(ours, plain(model, padded()))
    with pytest.raises(RuntimeError, match="boom"):
        Hooked(fails=True).generate(model, **padded(), max_new_tokens=4)
    equal(plain(model, padded()), before)
    assert not torch.equal(torch.stack(ours.logits), torch.stack(before.logits))


def test_a_model_that_samples_by_default_does_not_when_the_decoder_chooses():
    model = tiny("qwen3")
    model.generation_config.update(do_sample=True, temperature=0.6, top_k=20, top_p=0.95)
    equal(Greedy().generate(model, **padded(), **WHOLE), plain(model, padded()))


@pytest.fixture(scope="module")
def language(model):
    tokenizer = characters()
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    return LanguageModel(model, tokenizer, "tiny", 512)


def test_stop_strings_need_a_tokenizer(language):
    free = plain(language.model, one()).sequences
    text = language.tokenizer.decode(free[0, 40:])
    ids = {**one(), "max_new_tokens": STEPS, "stop_strings": [text[3:5]]}
    said = Greedy().generate(language, **ids)
    assert torch.equal(said, language.model.generate(**ids, do_sample=False, tokenizer=language.tokenizer))
    assert said.shape[1] < 40 + STEPS
    with pytest.raises(InvalidValue, match="stop_strings: need the model's tokenizer"):
        Greedy().generate(language.model, **ids)


def test_answers_take_a_decoder(language):
    batch, sampling = TokenBatch.from_ids(one()["input_ids"]), Sampling(max_new_tokens=STEPS)
    tell: list[str] = []
    own = answer(language, batch, sampling, nullcontext, logits=True)
    ours = answer(language, batch, sampling, nullcontext, logits=True, tell=tell.append, decoder=Greedy(embeds=True))
    assert torch.equal(own.ids, ours.ids)
    assert torch.equal(own.logits, ours.logits)
    assert "".join(tell).strip() == own.text == ours.text
    assert (len(ours.notes), own.notes) == (STEPS, ())
    with pytest.raises(Incompatible, match="cannot follow a given answer"):
        follow(language, batch, own.ids, nullcontext, decoder=Greedy())
    with pytest.raises(Incompatible, match="draws by settings of its own"):
        answer(language, batch, Sampling(temperature=0.7), nullcontext, decoder=Greedy())
