"""Stretches that are cut otherwise cost, in one pass, what each costs by itself behind the model's own tokens."""

from __future__ import annotations

import pytest
import torch

from benchmarks.embed.stretches import bits_of_stretches, stretches
from tests.embed.embed_models import OLD_TEXT, model, trained
from tokenry.embed.transfer.bits import bits_of


def test_stretches_in_one_pass_are_those_by_themselves():
    language = model("llama", trained(OLD_TEXT, bos_token="<s>", eos_token="</s>"))
    language.model.eval()
    own = language.tokenizer(OLD_TEXT[:60], add_special_tokens=False)["input_ids"]
    byte = language.tokenizer.convert_tokens_to_ids
    pieces = language.tokenizer.convert_ids_to_tokens(own)
    other = [i for at, (id, piece) in enumerate(zip(own, pieces, strict=True))
             for i in (map(byte, piece) if at % 3 == 1 else [id])]  # fmt: skip
    found = stretches(language, own, other)
    assert len(found) > 3
    assert bits_of_stretches(language, own, own) == pytest.approx(bits_of(language, own), rel=1e-5)
    with torch.no_grad():
        bits = bits_of(language, own)
        for first, last, spelled in found:
            bits += bits_of(language, own[:first] + spelled) - bits_of(language, own[:last])
    assert bits_of_stretches(language, own, other) == pytest.approx(bits, rel=1e-5)
