"""A LLaVA made of an encoder of pictures and a language model, and what its folder says of pictures and of talk."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from tokenry.models.files.load import LanguageModel
from tokenry.models.signals.encoders import VisionEncoder

MARK = "<image>"
ATTENTION = r"model\.language_model\..*\.(q|k|v|o)_proj"
"""Names of the maps of the language model's attention, as a pattern."""
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{- 'User:' -}}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{- '" + MARK + "' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- else -%}{{- 'Assistant: ' -}}"
    "{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}{{- eos_token -}}"
    "{%- endif -%}{{- '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
)
"""Questions after `User:`, answers after `Assistant:`, each on a line of its own."""


def joined(vision: VisionEncoder, language: LanguageModel, *, layer: int, side: int) -> LlavaForConditionalGeneration:
    """A LLaVA with the weights of both and a random projector; the mark of a picture joins the tokenizer.

    Args:
        layer: of the encoder, whose states are projected.
        side: patches on the side of a picture.
    """
    tokenizer = language.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": [MARK]})
    mark = int(tokenizer.vocab[MARK])
    text = copy.deepcopy(language.model.config)
    text.vocab_size = max(mark + 1, int(text.vocab_size))
    model: Any = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision.model.config, text_config=text, image_token_index=mark, vision_feature_layer=layer,
            vision_feature_select_strategy="default", image_seq_length=side * side, tie_word_embeddings=True,
        )
    )  # fmt: skip
    weights = language.model.model.state_dict()
    table = weights["embed_tokens.weight"]
    weights["embed_tokens.weight"] = torch.cat((table, table.mean(0, keepdim=True)))[: text.vocab_size]
    model.model.language_model.load_state_dict(weights)
    model.model.vision_tower.load_state_dict(vision.model.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = tokenizer.eos_token_id
    model.eval()
    return model.to(dtype=language.dtype)


def write(model: LlavaForConditionalGeneration, vision: VisionEncoder, language: LanguageModel, draft: Path) -> None:
    """The folder of such a model: what `load_vision_language` and transformers' own processor read."""
    model.save_pretrained(draft)
    language.tokenizer.chat_template = TEMPLATE
    language.tokenizer.save_pretrained(draft)
    side = int(model.config.image_seq_length**0.5) * vision.patch
    pictures = {
        "image_processor_type": "BitImageProcessor", "processor_class": "LlavaProcessor", "do_resize": True,
        "size": {"height": side, "width": side}, "do_center_crop": False, "resample": 3, "do_convert_rgb": True,
        "do_rescale": True, "rescale_factor": vision.scale, "do_normalize": True, "image_mean": vision.mean,
        "image_std": vision.std,
    }  # fmt: skip
    whole = {
        "processor_class": "LlavaProcessor", "image_token": MARK, "patch_size": vision.patch,
        "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default",
    }  # fmt: skip
    for name, said in (("preprocessor_config.json", pictures), ("processor_config.json", whole)):
        (draft / name).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
