"""Attach attention methods to models of five families, and see what they read and hold.

The models are random and tiny, so their words mean nothing; the counts are real.
"""

from __future__ import annotations

import torch

from tokenry import SnapKV, TokenSelect, Window
from tokenry.models.files.tiny import tiny

FAMILIES = ("llama", "qwen3", "gemma3_text", "gpt_neox", "phi3")
PROMPT = 200
NEW = 4
METHODS = [
    TokenSelect(budget=1000),
    TokenSelect(budget="48:sink=2:recent=8"),
    SnapKV(budget=48, window=8),
    Window(budget="48:sink=2"),
]


def main() -> None:
    ids = torch.randint(3, 128, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    print(f"{PROMPT} tokens of prompt, {NEW} new ones\n")
    for family in FAMILIES:
        model = tiny(family)
        dense = model.generate(ids, max_new_tokens=NEW)
        print(family)
        for method in METHODS:
            with method(model, prompt_tokens=PROMPT) as run:
                out = model.generate(ids, max_new_tokens=NEW, return_dict_in_generate=True)
            read = [round(tokens) for tokens in run.reads.per_step]
            name, budget = type(method).__name__, method.budget
            print(f"  {name:12} budget {budget.tokens:4}: reads {read}, holds {run.held_bytes:7} bytes")
            if budget.count(PROMPT) == PROMPT:
                assert torch.equal(out.sequences, dense)
    print("\nThe budget of 1000 covers everything and gave the dense result on every family.")


if __name__ == "__main__":
    main()
