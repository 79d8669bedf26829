"""Documents read once answer one question after the other, also in another process."""

from __future__ import annotations

import pytest
import torch

from tokenry import Pipeline
from tokenry.core.errors import Incompatible, InvalidValue, StorageError
from tokenry.data import read
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.models.generate.answer import Sampling
from tokenry.pipeline.reading import Reading

TEXT = read("sotu_1975")[:3000]
QUESTIONS = ("What shall we do about energy?", "Who is unemployed?")
PIPELINES = [
    [],
    ["token_select:budget=64"],
    ["snapkv:budget=64,window=8"],
    ["window:budget=64"],
    ["self_information:budget=0.5", "token_select:budget=64"],
]


@pytest.fixture(scope="module")
def language(smollm2):
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=2048)
    return LanguageModel(model, smollm2.tokenizer, "tiny", 2048)


@pytest.mark.parametrize("methods", PIPELINES, ids=lambda m: "+".join(m) or "dense")
def test_every_question_is_as_if_it_were_the_first(language, methods, tmp_path):
    pipeline = Pipeline(methods)
    one, other = (pipeline.read(TEXT, language).ask(q, max_new=6).ids.tolist() for q in QUESTIONS)
    reading = pipeline.read(TEXT, language)
    assert reading.ask(QUESTIONS[0], max_new=6).ids.tolist() == one
    assert reading.ask(QUESTIONS[1], max_new=6).ids.tolist() == other
    assert reading.ask(QUESTIONS[0], max_new=6).ids.tolist() == one
    reading.save(tmp_path / "doc.kv")
    loaded = Reading.load(tmp_path / "doc.kv", language)
    assert loaded.method == reading.method
    assert loaded.kv_bytes == reading.kv_bytes
    assert loaded.ask(QUESTIONS[1], max_new=6).ids.tolist() == other


@pytest.mark.parametrize("methods", [[], ["token_select:budget=100000"], ["self_information:budget=0.5"]])
def test_where_nothing_is_forgotten_it_is_the_answer_of_generate(language, methods):
    pipeline = Pipeline(methods)
    _, said = pipeline.run(TEXT, language, QUESTIONS[0], Sampling(max_new_tokens=6))
    assert pipeline.read(TEXT, language).ask(QUESTIONS[0], max_new=6).ids.tolist() == said.ids.tolist()


def test_only_the_question_is_read(language):
    reading = Pipeline(["token_select:budget=64,chunk=0"]).read(TEXT, language)
    seen = []
    hook = language.model.get_input_embeddings().register_forward_hook(lambda m, a, o: seen.append(o.shape[1]))
    reading.ask(QUESTIONS[0], max_new=3)
    hook.remove()
    assert reading.tokens > 500
    assert seen[0] < 40


def test_eviction_happens_once(language):
    """After the documents, not again after the question."""
    reading = Pipeline(["snapkv:budget=64,window=8"]).read(TEXT, language)
    said = reading.ask(QUESTIONS[0], max_new=4)
    asked = said.cache.get_seq_length() - reading.tokens
    assert {layer.held for layer in said.cache.layers} == {64 + asked}


def test_bad_input(language, tmp_path):
    with pytest.raises(InvalidValue, match="ask: must hold a question"):
        Pipeline().read(TEXT, language).ask("  ")
    with pytest.raises(InvalidValue, match="dense_relevance: ask must be given"):
        Pipeline(["dense_relevance:budget=0.5"]).read(TEXT, language)
    (tmp_path / "bad").write_bytes(b"no")
    with pytest.raises(StorageError, match="must be a whole file"):
        Reading.load(tmp_path / "bad", language)
    reading = Pipeline().read(TEXT, language)
    reading.save(tmp_path / "doc.kv")
    other = LanguageModel(tiny("qwen3", vocab_size=len(language.tokenizer)), language.tokenizer, "other", 512)
    with pytest.raises(Incompatible, match="must go on with the model"):
        Reading.load(tmp_path / "doc.kv", other)
    assert torch.equal(Reading.load(tmp_path / "doc.kv", language).ids, reading.ids)
