"""The main job from Python."""

from __future__ import annotations

import json

import pytest
import torch

from tests.core.test_notebook import Seen
from tokenry import Document, Pipeline, TokenSelect, load
from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.data import read
from tokenry.models.files import store
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.models.generate.answer import Sampling, answer, follow
from tokenry.models.text.prompt import prompt
from tokenry.pipeline.compare import control_of

TEXT = read("sotu_1975")[:2500]
SPECS = ["lexical_relevance:budget=0.25", "token_select:budget=64"]


@pytest.fixture(scope="module")
def language(smollm2):
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=2048)
    return LanguageModel(model, smollm2.tokenizer, "tiny", 2048)


def test_a_trace_says_what_happened_to_every_token(language):
    trace = Pipeline(SPECS).generate([TEXT, Document("Ada Byron spoke.", "note")], language, "Who spoke?", max_new=4,
                                     record=True)  # fmt: skip
    whole = trace.to_dict()
    assert [d["name"] for d in whole["documents"]] == ["document 1", "note"]
    assert "".join(whole["documents"][0]["tokens"]) == TEXT
    kept = whole["steps"][0]["kept"]
    assert sum(map(sum, kept)) == trace.receipt.steps[0].tokens_out
    assert len(whole["reads"]["counts"]) == 3
    json.dumps(whole)
    survived = trace.final.survival()[0]
    assert set(survived.tolist()) == {0.0, 1.0}
    for column, (source, _, start, stop, *_) in enumerate(trace.final.spans()[0].tolist()):
        piece = language.tokenizer.decode([int(trace.final.ids[0, column])])
        raw = trace.final.origin.sources[source].data.encode()[start:stop].decode("utf-8", "ignore")
        assert raw in piece or piece in raw


def test_the_prompt_is_what_the_model_would_read(language):
    batch = prompt(language.tokenizer, [Document(TEXT)], "Who?")
    messages = [{"role": "user", "content": TEXT + "\n\nWho?"}]
    expected = language.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    assert batch.ids[0].tolist() == expected["input_ids"]


def test_template_question_and_marked_spans_survive_any_budget(language):
    marked = TEXT.index("Sam Rayburn")
    document = Document(TEXT, protect=((marked, marked + len("Sam Rayburn")),))
    trace = Pipeline(["compress/random:budget=1"]).generate(document, language, "Who spoke first?", max_new=2)
    text = language.tokenizer.decode(trace.final.ids[0])
    for piece in ("<|im_start|>user", "Who spoke first?<|im_end|>", "<|im_start|>assistant", "Sam Rayburn"):
        assert piece in text
    names = language.tokenizer(" Sam Rayburn")["input_ids"]
    assert trace.receipt.steps[0].tokens_out == 1 + len(names)


def test_following_an_answer_gives_the_logits_of_saying_it(language):
    batch = prompt(language.tokenizer, [Document(TEXT)], "Who?")
    for pipeline in (Pipeline(), Pipeline(["token_select:budget=64"]), Pipeline(["snapkv:budget=64"])):
        attach = pipeline.attach(language, batch)
        said = answer(language, batch, Sampling(max_new_tokens=5), attach, logits=True)
        torch.testing.assert_close(follow(language, batch, said.ids, attach), said.logits, atol=1e-4, rtol=1e-4)


def test_a_model_object_needs_only_a_tokenizer(language):
    trace = Pipeline(SPECS).generate(TEXT, language.model, "Who?", tokenizer=language.tokenizer, max_new=2)
    assert trace.receipt.new_tokens == 2
    with pytest.raises(UnsupportedModel, match="its tokenizer was not found; pass tokenizer="):
        Pipeline().generate(TEXT, tiny("llama"), "Who?")


def test_a_peft_model_answers_as_itself(language):
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(
        tiny("llama", vocab_size=len(language.tokenizer), max_position_embeddings=2048),
        peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False),
    )
    g = torch.Generator().manual_seed(0)
    for name, weight in wrapped.named_parameters():
        if "lora" in name:
            weight.data = torch.randn(weight.shape, generator=g)
    trace = Pipeline(SPECS).generate(TEXT, wrapped.eval(), "Who?", tokenizer=language.tokenizer, max_new=3)
    plain = Pipeline(SPECS).generate(TEXT, language, "Who?", max_new=3)
    assert trace.receipt.new_tokens == 3
    assert trace.answer != plain.answer


def test_pipelines_that_cannot_work_are_refused_when_built():
    with pytest.raises(Incompatible, match="room compress must come before those of room attend"):
        Pipeline(["window", "lexical_relevance"])
    with pytest.raises(Incompatible, match="only one attention method"):
        Pipeline(["window", TokenSelect()])
    with pytest.raises(InvalidValue, match="must hold some text"):
        Pipeline().generate("", LanguageModel(None, None, "", None))


def test_pipelines_survive_json_and_have_controls():
    pipeline = Pipeline(["dense_relevance:budget=0.3,units=word", "snapkv:budget=64"])
    again = Pipeline.from_dict(json.loads(json.dumps(pipeline.to_dict())))
    assert again.methods == pipeline.methods
    control = control_of(pipeline)
    assert [m.name() for m in control.methods] == ["random", "random"]
    assert control.methods[0].budget == pipeline.methods[0].budget
    assert str(control.methods[0].units) == "compress/word"
    assert control.methods[1].budget == pipeline.methods[1].budget


def test_a_control_reads_everything_at_the_same_steps(language):
    pipeline = Pipeline(["recycled:budget=8,refresh=stride[steps=3]"])
    control = control_of(pipeline)
    assert control.methods[0].refresh == pipeline.methods[0].refresh
    read = [p.generate(TEXT, language, "economy", max_new=8).receipt.read_per_step for p in (pipeline, control)]
    assert read[0] == read[1]
    assert [n > 8 for n in read[0]] == [False, False, True] * 2 + [False]


def test_compressed_text_is_within_the_budget_of_its_tokenizer(language):
    for share in (0.1, 0.25, 0.5, 0.9):
        text = Pipeline([f"compress/random:budget={share},units=word"]).compress(TEXT, language.tokenizer)
        whole = len(language.tokenizer(TEXT)["input_ids"])
        assert len(language.tokenizer(text)["input_ids"]) <= int(whole * share + 0.5)


def test_compressed_text_is_never_empty_for_what_is_protected(language):
    spans = tuple((i, i + 1) for i, c in enumerate(TEXT) if c.isupper())
    text = Pipeline(["compress/random:budget=1"]).compress(Document(TEXT, protect=spans), language.tokenizer)
    assert all(TEXT[a:b] in text for a, b in spans)


def test_the_global_random_state_is_left_alone(language):
    before = torch.random.get_rng_state()
    Pipeline().generate(TEXT, language, "Who?", sampling=Sampling(max_new_tokens=2, temperature=1.0, seed=3))
    assert torch.equal(before, torch.random.get_rng_state())


def test_several_compressors_compose(language):
    trace = Pipeline(["lexical_relevance:budget=0.5", "compress/random:budget=0.5,units=word"]).generate(
        TEXT, language, "economy", max_new=2
    )
    first, second = trace.receipt.steps
    assert second.tokens_in == first.tokens_out
    assert second.tokens_out == int(first.tokens_out * 0.5 + 0.5)


def test_the_second_time_nothing_is_converted(smollm2, monkeypatch):
    monkeypatch.setattr(store, "_write", None)
    load("smollm2")


@pytest.mark.parametrize("values", [{}, {"methods": 3}, {"methods": [3]}, {"methods": [{}]}])
def test_a_description_that_cannot_be_read_is_explained(values):
    with pytest.raises(InvalidValue, match="must be a list of methods by name"):
        Pipeline.from_dict(values)


def test_a_folder_is_of_a_learned_method():
    with pytest.raises(InvalidValue, match="window: has nothing to learn"):
        Pipeline.from_dict({"methods": [{"method": "attend/window", "folder": "x"}]})


def test_notebooks_show_a_trace(language):
    evil = "<script>x</script>"
    document = Document(f"{TEXT} {evil}", name=evil)
    trace = Pipeline(["compress/random:budget=0.25"]).generate(document, language, f"Who? {evil}", max_new=2)
    seen = Seen(trace._repr_html_())
    assert seen.tags <= {"p", "b", "table", "tr", "th", "td", "details", "summary", "pre", "span"}
    assert f"Who? {evil}" in seen.text
    assert "compress/random" in seen.text
    assert f"{evil}: {trace.receipt.steps[0].tokens_out:,} of {trace.receipt.steps[0].tokens_in:,} tokens" in seen.text
    assert len(trace._repr_html_()) < 20_000
