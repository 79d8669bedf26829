"""Marks go by name, by role, and with the chat template that writes them."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoTokenizer

from tests.embed.embed_models import CHAT, NEW_TEXT, OLD_TEXT, described, model, trained
from tokenry.core.errors import UnsupportedModel
from tokenry.embed.mean_of_pieces import MeanOfPieces
from tokenry.models.text.embeddings import matrices_of, save, with_matrices
from tokenry.models.text.marks import dress
from tokenry.models.text.vocabulary import vocabulary_of

TALK = [{"role": "user", "content": "The lamp?"}]


def names(dressed, like):
    """New and old name of each mark."""
    return {
        dressed.tokenizer.convert_ids_to_tokens(new): like.convert_ids_to_tokens(old)
        for new, old in dressed.marks.items()
    }


def chatting():
    tokenizer = trained(OLD_TEXT, 311, bos_token="<s>", eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|never|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def test_by_name_and_by_role():
    like = trained(OLD_TEXT, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    dressed = dress(trained(NEW_TEXT, bos_token="<begin>", eos_token="</s>", sep_token="<sep>"), like)
    assert names(dressed, like) == {"<begin>": "<s>", "</s>": "</s>", "<pad>": "<pad>"}
    t = dressed.tokenizer
    assert (t.bos_token, t.eos_token, t.pad_token) == ("<begin>", "</s>", "<pad>")
    assert t.convert_tokens_to_ids("<sep>") not in dressed.marks


def test_one_mark_with_several_roles_stays_one():
    like = trained(OLD_TEXT, bos_token="<|text|>", eos_token="<|text|>", unk_token="<|text|>")
    dressed = dress(trained(NEW_TEXT, bos_token="<s>", eos_token="</s>", pad_token="<pad>"), like)
    assert names(dressed, like) == {"</s>": "<|text|>"}
    t = dressed.tokenizer
    assert (t.bos_token, t.eos_token, t.pad_token, t.unk_token) == ("</s>", "</s>", "<pad>", None)


def test_a_chat_template_brings_the_marks_that_it_writes():
    like, given = chatting(), trained(NEW_TEXT, eos_token="</s>")
    dressed = dress(given, like)
    assert names(dressed, like) == {"<s>": "<s>", "<|end|>": "<|end|>", "<|turn|>": "<|turn|>"}
    assert (dressed.tokenizer.eos_token, dressed.tokenizer.pad_token) == ("<|end|>", "<|end|>")
    talk = dressed.tokenizer.apply_chat_template(TALK, tokenize=False)
    assert talk == like.apply_chat_template(TALK, tokenize=False) == "<|turn|>user: The lamp?<|end|>"
    ids = dressed.tokenizer(talk)["input_ids"]
    assert [ids[0], ids[-1]] == [dressed.tokenizer.convert_tokens_to_ids(m) for m in ("<|turn|>", "<|end|>")]
    assert given.chat_template is None
    assert len(given) < len(dressed.tokenizer)


def test_roles_that_a_template_names_are_kept():
    like = trained(OLD_TEXT, bos_token="<s>", eos_token="<stop>")
    like.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    dressed = dress(trained(NEW_TEXT, bos_token="<begin>"), like)
    assert names(dressed, like) == {"<s>": "<s>", "<stop>": "<stop>"}


def test_texts_begin_and_end_as_they_did():
    def around(tokenizer, single):
        from tokenizers import processors

        marks = [(m, tokenizer.convert_tokens_to_ids(m)) for m in ("<a>", "<b>") if m in single]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
        return tokenizer

    like = around(trained(OLD_TEXT, 312, bos_token="<a>", eos_token="<b>"), "<a> $A <b>")
    given = around(trained(NEW_TEXT, 313, bos_token="<b>", eos_token="<x>"), "<b> $A")
    dressed = dress(given, like)
    plain = given("The lamp", add_special_tokens=False)["input_ids"]
    begin, end = (dressed.tokenizer.convert_tokens_to_ids(m) for m in ("<a>", "<b>"))
    assert dressed.tokenizer("The lamp")["input_ids"] == [begin, *plain, end]
    bare = dress(given, trained(OLD_TEXT, bos_token="<a>"))
    assert bare.tokenizer("The lamp")["input_ids"] == plain


def test_the_tokenizer_comes_back_from_its_folder(tmp_path):
    dressed = dress(described({"a": 0, "▁": 1}), chatting()).tokenizer
    dressed.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "a b<|turn|> naïve 🤷"
    assert again(text)["input_ids"] == dressed(text)["input_ids"]
    assert again.apply_chat_template(TALK, tokenize=False) == dressed.apply_chat_template(TALK, tokenize=False)
    assert again.special_tokens_map == dressed.special_tokens_map
    assert vocabulary_of(again).fingerprint == vocabulary_of(dressed).fingerprint


def test_ids_of_marks_follow_in_both_configurations(tmp_path):
    old = model("llama", chatting())
    old.model.generation_config.eos_token_id = [old.tokenizer.eos_token_id, 3]
    old.model.config.eos_token_id = old.tokenizer.eos_token_id
    old.model.generation_config.suppress_tokens = [old.tokenizer.convert_tokens_to_ids("<|never|>"), 5]
    done = MeanOfPieces().transfer(old, trained(NEW_TEXT, eos_token="</s>"))
    t = done.tokenizer
    for config in (done.model.config, done.model.generation_config):
        assert (config.bos_token_id, config.pad_token_id) == (t.bos_token_id, t.pad_token_id)
    five = t.convert_tokens_to_ids(old.tokenizer.convert_ids_to_tokens(5))
    assert done.model.generation_config.eos_token_id[0] == t.eos_token_id
    assert done.model.generation_config.suppress_tokens == [five], "a mark that is gone needs no suppressing"
    assert done.model.get_input_embeddings().padding_idx == t.pad_token_id
    save(done, tmp_path / "model")
    with torch.no_grad():
        out = done.model.generate(torch.tensor([t("The lamp")["input_ids"]]), max_new_tokens=3)
    assert out.shape[1] > 3


def test_marks_that_end_a_text_are_not_lost():
    old = model("llama", chatting())
    never = old.tokenizer.convert_tokens_to_ids("<|never|>")
    old.model.generation_config.eos_token_id = [old.tokenizer.eos_token_id, never]
    done = MeanOfPieces().transfer(old, trained(NEW_TEXT))
    ends = done.tokenizer.convert_tokens_to_ids(["<|end|>", "<|never|>"])
    assert done.model.generation_config.eos_token_id == ends
    table, before = (m.model.get_input_embeddings().weight for m in (done, old))
    assert torch.equal(table[ends], before[[old.tokenizer.eos_token_id, never]])


def test_weights_between_the_matrices_are_shared_and_the_rest_is_not():
    old = model("gpt2", trained(OLD_TEXT))
    found = matrices_of(old.model)
    new = with_matrices(old.model, found, {})
    apart = {
        n for (n, a), (_, b) in zip(old.model.named_parameters(), new.named_parameters(), strict=True) if a is not b
    }
    assert apart == {"transformer.wte.weight"}
    assert new.lm_head.weight is new.transformer.wte.weight
    assert new.config is not old.model.config


def test_a_wrapped_model_is_refused():
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model("llama", trained(OLD_TEXT)).model, LoraConfig(target_modules="all-linear"))
    with pytest.raises(UnsupportedModel, match="got a wrapper; merge it first"):
        matrices_of(wrapped)
