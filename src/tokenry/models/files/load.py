"""Load a model by alias, folder, GGUF file or hub id; nothing that is loaded runs code of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from tokenry.core.errors import InvalidValue, StorageError, UnknownModel, UnsupportedModel
from tokenry.core.progress import now
from tokenry.models import private
from tokenry.models.attention.adapter import unwrap
from tokenry.models.files import hub, store
from tokenry.models.files.catalog import ALIASES, check_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """A causal model with its tokenizer.

    Args:
        model: the model, perhaps inside a wrapper such as PEFT's.
        tokenizer: a fast tokenizer, which knows the place of every token.
        name: what the user called it.
        context: tokens it was trained to read, or None where the configuration does not say.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    name: str
    context: int | None

    @classmethod
    def of(cls, model: Any, tokenizer: PreTrainedTokenizerBase | None = None) -> LanguageModel:
        """Wrap a model object; its tokenizer is looked up by the model's name when none is given.

        Raises:
            UnsupportedModel: not a transformers model, or no tokenizer can be found.
            InvalidValue: a tokenizer with more ids than the model has rows, which is another model's.
        """
        base = unwrap(model)
        name = str(base.config.name_or_path or "") or type(base).__name__
        if tokenizer is None:
            try:
                tokenizer = AutoTokenizer.from_pretrained(name)
            except (OSError, ValueError) as error:
                raise UnsupportedModel(f"model {name!r}: its tokenizer was not found; pass tokenizer=.") from error
        _check_rows(base, tokenizer, name)
        return cls(model, tokenizer, name, context_of(base))

    @property
    def device(self) -> torch.device:
        return private.input_device(unwrap(self.model))

    @property
    def dtype(self) -> torch.dtype:
        return unwrap(self.model).dtype


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A text encoder: its last hidden states are pooled by whoever uses it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a causal model for inference.

    Args:
        name: an alias of `tokenry models list`, a folder, a GGUF file or a hub id.
        device: `auto` takes an accelerator where there is one.
        dtype: `auto` is bfloat16 where the hardware computes in it, else float32.
        trust_remote_code: run Python code that a hub repository brings; off by default.

    Raises:
        UnknownModel: nothing was found under this name.
        StorageError: files are damaged or cannot be written.
        InvalidValue: an unknown device or dtype, or a tokenizer with more ids than the model has rows.
    """
    on = device_of(device)
    numbers = dtype_of(dtype, on)
    where = find(name, "causal")
    now(f"loading {name}")
    with quiet():
        model = read_model(AutoModelForCausalLM, name, where, numbers, trust_remote_code).eval().to(on)
        tokenizer = _tokenizer(name, where, trust_remote_code)
    _check_rows(model, tokenizer, name)
    return LanguageModel(model, tokenizer, name, context_of(model))


SHORT = 512
"""Tokens of an encoder for sentences and paragraphs, and of one that does not say how many it reads."""


@lru_cache(maxsize=4)
def load_encoder(name: str = "minilm", *, device: str = "auto", dtype: str = "auto") -> Encoder:
    """Load a text encoder, once per process."""
    on = device_of(device)
    numbers = dtype_of(dtype, on)
    where = find(name, "encoder", "causal")
    now(f"loading {name}")
    with quiet():
        model = read_model(AutoModel, name, where, numbers, trust_remote_code=False).eval().to(on)
        tokenizer = _tokenizer(name, where, trust_remote_code=False)
    _check_rows(model, tokenizer, name)
    limit = context_of(model) or SHORT
    if on.type == "cpu" and limit <= SHORT:
        # Sentences are shorter than what fused attention is made for: it takes a quarter of the time.
        model.set_attn_implementation("eager")
    return Encoder(model, tokenizer, limit)


@lru_cache(maxsize=4)
def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load only the tokenizer of a model."""
    with quiet():
        return _tokenizer(name, find(name), trust_remote_code=False)


def find(name: str, *kinds: str) -> str | Path:
    """Where a model lies: a folder, or the hub id that it was called by.

    Args:
        kinds: what an alias may be; anything, where nothing is said.

    Raises:
        UnknownModel: an alias that was not fetched, a file that is not there, or a name that the hub does not have.
        UnsupportedModel: an alias of another kind.
    """
    check_name(name, *kinds)
    if name in ALIASES:
        return store.ensure(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        return store.converted(path)
    hub.check(name)
    return name


def read_model(kind: Any, name: str, where: str | Path, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    """Weights and configuration of a model, from safetensors alone."""
    try:
        return kind.from_pretrained(where, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code)
    except SafetensorError as error:
        raise StorageError(f"{where}: must hold whole safetensors files; {error}; fetch the model again.") from error
    except (OSError, ValueError) as error:
        raise not_found(name, where, error) from error


def _tokenizer(name: str, where: str | Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise not_found(name, where, error) from error
    if not tokenizer.is_fast:
        raise UnsupportedModel(f"model {name!r}: needs a fast tokenizer, which knows where each token stands.")
    return tokenizer


def _check_rows(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Another model's tokenizer is refused here, and not by an index inside the model.

    Marks that were added to a tokenizer, but never to the model, are nothing that a text becomes.
    """
    rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    ids = tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False) if tokenizer.is_fast else 0
    if rows is not None and ids > rows:
        raise InvalidValue(
            f"model {name!r}: its tokenizer must have no more than the model's {rows} ids; got {ids}; pass the model's "
            f"own tokenizer."
        )


def not_found(name: str, where: str | Path, error: Exception) -> UnknownModel:
    """The error for a model that transformers could not read."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(where, Path):
        return UnknownModel(f"model {name!r}: {where} must hold config.json, safetensors and a tokenizer; {reason}")
    return UnknownModel(f"model {name!r}: must be an alias, a folder, a GGUF file or a hub id; {reason}")


def device_of(device: str) -> torch.device:
    """The device that a user asked for."""
    if device == "auto":
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise InvalidValue(
            f"device: must be auto, cpu or an accelerator that this machine has; got {device!r} ({reason})."
        ) from error
    return found


def dtype_of(dtype: str, device: torch.device) -> torch.dtype:
    """The type of numbers that a user asked for."""
    if dtype == "auto":
        fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    if dtype not in DTYPES:
        raise InvalidValue(f"dtype: must be auto, {', '.join(DTYPES)}; got {dtype!r}.")
    return DTYPES[dtype]


def context_of(model: PreTrainedModel) -> int | None:
    """Tokens that a model was trained to read, where its configuration says so."""
    config = model.config.get_text_config()
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)


@contextmanager
def quiet() -> Iterator[None]:
    """No bar for loads that take a second."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
