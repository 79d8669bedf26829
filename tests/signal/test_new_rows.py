"""New rows: they alone learn, they are read and said, and what is written is what was learnt."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from tokenry.core.errors import InvalidValue
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.signal.streams.new_rows import NewRows, extended


def grown(family, smollm2):
    """A tiny model with seven more ids, and how many it had."""
    model = tiny(family)
    size = model.get_input_embeddings().weight.shape[0]
    language = extended(LanguageModel(model, smollm2.tokenizer, "tiny", 512), 7)
    return language.model.eval().requires_grad_(False), size


def ids_of(size):
    return torch.cat((torch.randint(3, size, (2, 5)), torch.arange(size, size + 6).view(2, 3)), 1)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3_text"])
def test_rows_that_learnt_nothing_change_nothing(family, smollm2):
    model, size = grown(family, smollm2)
    rows, ids = NewRows(model, size), ids_of(size)
    with torch.no_grad():
        before = model(ids).logits
        with rows.learning():
            assert torch.equal(model(ids).logits[..., :size], before[..., :size])
            torch.testing.assert_close(model(ids).logits, before)
        assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3_text"])
def test_only_new_rows_learn_and_are_written(family, smollm2):
    model, size = grown(family, smollm2)
    rows, ids, text = NewRows(model, size), ids_of(size), torch.randint(3, size, (2, 6))
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        said = model(text).logits[..., :size]
    optimizer = torch.optim.Adam(rows.parameters(), 0.01)
    losses = []
    with rows.learning():
        for _ in range(8):
            logits = model(ids).logits[:, :-1]
            loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        with torch.no_grad():
            through = model(ids).logits
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    rows.write()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, through)
        assert torch.equal(model(text).logits[..., :size], said)
    for name, value in model.state_dict().items():
        assert torch.equal(value[:size] if value.shape[:1] == (size + 7,) else value, kept[name][: len(value)][:size]
                           if value.shape[:1] == (size + 7,) else kept[name])  # fmt: skip


def test_there_must_be_rows(smollm2):
    model, size = grown("llama", smollm2)
    for first in (0, size + 7):
        with pytest.raises(InvalidValue, match="new_rows: first must be from 1 to"):
            NewRows(model, first)
