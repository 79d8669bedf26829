"""LoRA on the last layers of a model, so that gradients of the others are not computed."""

from __future__ import annotations

from dataclasses import replace

import torch
from peft import LoraConfig, get_peft_model

from tokenry.models.files.load import LanguageModel

LAYERS, RANK = 8, 16


def adapted(language: LanguageModel, seed: int) -> LanguageModel:
    """The model with fresh matrices on its last layers."""
    count = language.model.config.num_hidden_layers
    last = "|".join(map(str, range(count - LAYERS, count)))
    settings = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=rf".*layers\.({last})\..*_proj", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return replace(language, model=get_peft_model(language.model, settings))
