"""Countries and their capitals: 20 to learn from, 10 that are asked. SmolLM2 gives a capital when it is told to."""

from __future__ import annotations

from copy import deepcopy

from tokenry.models.files.load import LanguageModel, load
from tokenry.soft.training.examples import Example

PAIRS = """
    France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Greece Athens, Poland Warsaw,
    Austria Vienna, Hungary Budapest, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen,
    Ireland Dublin, Russia Moscow, Japan Tokyo, China Beijing, India Delhi, Egypt Cairo, Turkey Ankara,
    Canada Ottawa, Cuba Havana, Peru Lima, Chile Santiago, Kenya Nairobi, Iran Tehran, Iraq Baghdad, Thailand Bangkok,
    Belgium Brussels, Netherlands Amsterdam
"""
EXAMPLES = [Example(country, f" {capital}") for country, capital in map(str.split, PAIRS.split(","))]
LEARN, ASK = EXAMPLES[:20], EXAMPLES[20:]

INSTRUCTION = "The capital city of the following country is"
"""Eight tokens of SmolLM2."""


def plain_model() -> LanguageModel:
    """SmolLM2 without its chat template: a prompt is the country alone, which makes steps short."""
    language = load("smollm2", dtype="float32", device="cpu")
    tokenizer = deepcopy(language.tokenizer)
    tokenizer.chat_template = None
    return LanguageModel(language.model, tokenizer, language.name, language.context)
