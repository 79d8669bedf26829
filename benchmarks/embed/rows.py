"""Rows of an exchanged vocabulary that are trained on, while the model behind them stays as it is.

The paper goes on training the whole model; this is the cheapest part of it.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from benchmarks.embed.zett import texts
from tokenry.core.seeds import mixed
from tokenry.models.files.load import LanguageModel

STEPS, ROWS, TOKENS, RATE = 60, 4, 128, 1e-3


def rows_trained_on(language: LanguageModel) -> LanguageModel:
    """A model with tied rows after some steps over texts that hold no passage; the rate falls to zero."""
    model = language.model
    table = model.get_input_embeddings().weight
    name = next(name for name, p in model.named_parameters() if p is table)
    ids = torch.tensor(language.tokenizer("\n\n".join(texts()), verbose=False)["input_ids"])
    half = deepcopy(model).to(torch.bfloat16).requires_grad_(False)
    rows = table.detach().float().clone().requires_grad_()
    optimizer = torch.optim.AdamW([rows], lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (STEPS - step) / STEPS
        chance = torch.Generator().manual_seed(mixed(step))
        starts = torch.randint(len(ids) - TOKENS, (ROWS,), generator=chance)
        batch = torch.stack([ids[at : at + TOKENS] for at in starts.tolist()])
        given = {"input_ids": batch, "use_cache": False}
        logits = functional_call(half, {name: rows.to(torch.bfloat16)}, (), given).logits[:, :-1].float()
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
    with torch.no_grad():
        table.copy_(rows)
    return language
