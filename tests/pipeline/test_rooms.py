"""Rooms together: one answer through five of them, every pair, and every order that cannot work."""

from __future__ import annotations

import copy
from itertools import combinations, permutations

import pytest
import torch

from tokenry import Pipeline, PrefixTuning, PromptTuning, load
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.registry import ROOMS, entries, parse
from tokenry.core.sequence import Modality
from tokenry.data import read
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.models.generate.answer import Sampling
from tokenry.pipeline.reading import Reading

TEXT = read("sotu_1975")[:2500]
ASK = "To what rate will the corporate tax be reduced?"
SPECS = {
    "segment": ["stochastok:share=0.5"],
    "soft": ["prompt_tuning", "prefix_tuning"],
    "compress": ["lexical_relevance:budget=0.4", "compress/random:budget=0.4"],
    "attend": ["token_select:budget=64:sink=4:recent=16,chunk=0", "snapkv:budget=64,window=16", "window:budget=48"],
    "decode": ["soft_thinking:end=none,soft_steps=3,answer_temperature=0"],
}
"""Methods of every room that takes part in an answer."""


@pytest.fixture(scope="module")
def language(smollm2):
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=4096)
    return LanguageModel(model, smollm2.tokenizer, "tiny", 4096)


@pytest.fixture(scope="module")
def soft(language):
    started = (
        PromptTuning(tokens=4).start(language, "random", seed=1),
        PrefixTuning(tokens=5, hidden=0).start(language, "text", text="Answer with a number."),
    )
    return {method.name(): method for method in started}


def built(spec, soft):
    return soft[spec] if spec in soft else parse(spec)


def check(trace, language):
    """Every column is a byte span of the text, a soft token, or of the template and the question."""
    final = trace.final
    spans = final.spans()[0]
    kinds = [s.kind for s in final.origin.sources]
    for column in range(final.shape[1]):
        source, _, start, stop = spans[column, :4].tolist()
        if final.modality[0, column] == Modality.SOFT:
            assert source == -1
            continue
        piece = language.tokenizer.decode([int(final.ids[0, column])])
        if source >= 0 and kinds[source] == "text":
            raw = final.origin.sources[source].data.encode()[start:stop]
            assert raw, column
            assert raw.decode("utf-8", "ignore") in piece or piece in raw.decode("utf-8", "ignore")


@pytest.mark.parametrize("decoder", [[], SPECS["decode"]])
@pytest.mark.parametrize("learned", SPECS["soft"])
def test_a_penalty_for_repetition_sees_the_prompt_behind_soft_tokens(language, soft, learned, decoder):
    pipeline = Pipeline([soft[learned], *decoder])
    asked = "What is not here?"
    prompt = {i for i in pipeline.prepare(asked, language, None, max_new=1).final.ids[0].tolist() if i >= 0}
    vocabulary = len(language.tokenizer)
    said = {}
    for penalty in (1.0, 1e9):
        bias = {(i,): 50.0 for i in sorted(prompt)[:1]}
        language.model.generation_config.sequence_bias = bias
        try:
            sampling = Sampling(max_new_tokens=4, repetition_penalty=penalty)
            said[penalty] = set(pipeline.run(asked, language, None, sampling)[1].ids.tolist())
        finally:
            language.model.generation_config.sequence_bias = None
    assert said[1.0] <= prompt < set(range(vocabulary))
    assert not said[1e9] & prompt


def test_one_answer_through_five_rooms(language, soft):
    methods = [built(specs[0], soft) for specs in SPECS.values()]
    trace = Pipeline(methods).generate(TEXT, language, ASK, max_new=6, record=True)
    steps = trace.receipt.steps
    assert [s.room for s in steps] == list(SPECS)
    assert steps[0].tokens_out > steps[0].tokens_in
    assert steps[1].tokens_out == steps[1].tokens_in + 4
    assert steps[2].tokens_out == round(0.4 * steps[2].tokens_in)
    assert max(trace.receipt.read_per_step) <= 64
    assert trace.receipt.new_tokens == 6
    assert len(trace.notes) == 6
    assert not trace.final.embeds.requires_grad
    check(trace, language)
    assert len(trace.to_dict()["steps"]) == 5


@pytest.mark.parametrize("rooms", list(combinations(SPECS, 2)), ids="-".join)
def test_every_pair_of_rooms_works_together(language, soft, rooms):
    first, second = rooms
    for a in SPECS[first]:
        for b in SPECS[second]:
            trace = Pipeline([built(a, soft), built(b, soft)]).generate(TEXT, language, ASK, max_new=4)
            assert trace.receipt.new_tokens == 4
            assert [s.room for s in trace.receipt.steps] == [first, second]
            check(trace, language)


@pytest.mark.parametrize("rooms", list(permutations(SPECS, 2)), ids="-".join)
def test_only_the_order_of_a_tokens_life_is_taken(soft, rooms):
    methods = [built(SPECS[room][0], soft) for room in rooms]
    if ROOMS.index(rooms[0]) < ROOMS.index(rooms[1]):
        assert Pipeline(methods).methods == tuple(methods)
    else:
        with pytest.raises(Incompatible, match=f"room {rooms[1]} must come before those of room {rooms[0]}"):
            Pipeline(methods)


@pytest.mark.parametrize("room", ["segment", "compress", "attend", "decode"])
def test_two_of_one_room(soft, room):
    twice = [built(SPECS[room][0], soft)] * 2
    if room == "compress":
        assert len(Pipeline(twice).methods) == 2
    else:
        with pytest.raises(Incompatible, match="only one"):
            Pipeline(twice)


def test_methods_that_are_no_step_of_an_answer_say_what_to_do_instead():
    stepping = set(SPECS)
    never = ("bpe", "unigram", "wordpiece", "softplus", "landmark", "softmax_free")
    others = [e for e in entries() if e.room not in stepping or e.name in never]
    assert {e.room for e in others} >= {"embed", "learn", "probe", "measure", "segment"}
    for e in others:
        with pytest.raises(Incompatible, match="Pipeline: "):
            Pipeline([e.full_name])


def test_soft_tokens_that_are_not_read_stand_first(language, soft):
    prompt, prefix = soft["prompt_tuning"], soft["prefix_tuning"]
    trace = Pipeline([prompt, prefix, "window:budget=64"]).generate(TEXT, language, ASK, max_new=3)
    assert int((trace.final.modality == Modality.SOFT).sum()) == 9
    with pytest.raises(Incompatible, match="put it last"):
        Pipeline([prefix, prompt])
    with pytest.raises(Incompatible, match="keep one such method"):
        Pipeline([prefix, prefix])


def test_a_prefix_is_read_as_its_text_would_be(language, soft):
    """The prefix was made of a text, so the first predictions are those of the text and the prompt."""
    prefix = soft["prefix_tuning"]
    pipeline = Pipeline([prefix])
    trace = pipeline.generate(TEXT, language, ASK, max_new=2)
    ids = torch.tensor([5, 6, 7])
    ours = pipeline.follow(language, trace.final, ids)
    text = language.tokenizer("Answer with a number.", add_special_tokens=False)["input_ids"][:5]
    row = torch.cat((torch.tensor(text), trace.final.ids[0, 5:], ids[:-1]))
    with torch.no_grad():
        own = language.model(row[None]).logits[0, -3:]
    torch.testing.assert_close(ours, own, atol=2e-4, rtol=1e-4)


def test_second_questions_after_soft_tokens(language, soft, tmp_path):
    pipeline = Pipeline([*soft.values(), "lexical_relevance:budget=0.5", *SPECS["decode"]])
    reading = pipeline.read(TEXT, language, ASK)
    said = reading.ask(ASK, max_new=4)
    assert said.ids.tolist() == pipeline.run(TEXT, language, ASK, _sampling(4))[1].ids.tolist()
    reading.save(tmp_path / "read.safetensors")
    again = Reading.load(tmp_path / "read.safetensors", language)
    assert again.ask(ASK, max_new=4).ids.tolist() == said.ids.tolist()


def test_a_learned_method_is_described_by_its_folder(language, soft, tmp_path):
    with pytest.raises(InvalidValue, match="must be saved as it is before"):
        Pipeline([PromptTuning(tokens=2).start(language, "random")]).to_dict()
    soft["prompt_tuning"].save(tmp_path / "prompt")
    again = Pipeline.from_dict(Pipeline([str(tmp_path / "prompt")]).to_dict())
    one, two = (Pipeline([m]).generate(TEXT, language, ASK, max_new=4) for m in (soft["prompt_tuning"], *again.methods))
    assert one.answer == two.answer


def test_text_carries_compressors_only(language, soft):
    for spec in ("stochastok", "prompt_tuning", "window:budget=64", *SPECS["decode"]):
        with pytest.raises(Incompatible, match="text cannot carry"):
            Pipeline([built(spec, soft)]).compress(TEXT, language.tokenizer)


@pytest.mark.slow
def test_five_rooms_on_a_real_model():
    language = load("smollm2", dtype="float32", device="cpu")
    prompt = PromptTuning(tokens=8).start(language, "text", text="Answer the question from the report.")
    methods = [
        "stochastok:share=0.05", prompt, "dense_relevance:budget=0.25", "token_select:budget=256",
        "soft_thinking:end=none,soft_steps=4,answer_temperature=0",
    ]  # fmt: skip
    trace = Pipeline(methods).generate(read("sotu_1975")[:12000], language, ASK, max_new=24)
    assert [s.room for s in trace.receipt.steps] == list(SPECS)
    assert trace.answer
    check(trace, language)


def _sampling(count):
    from tokenry.models.generate.answer import Sampling

    return Sampling(max_new_tokens=count)


def test_a_method_that_learned_on_since_is_not_described(language, soft, tmp_path):
    changed = copy.deepcopy(soft["prompt_tuning"])
    changed.save(tmp_path / "prompt")
    with torch.no_grad():
        next(changed.parameters()).add_(1)
    with pytest.raises(InvalidValue, match="must be saved as it is before"):
        Pipeline([changed]).to_dict()
