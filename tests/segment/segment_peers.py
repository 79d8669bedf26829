"""Vocabularies of other packages, and the libraries they were made for."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import pytest

from tokenry.segment.engines import encoding


def package(name: str) -> Path:
    """The folder of an installed package, which is never imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{name} is not installed; run `pip install --no-deps {name.replace('_', '-')}`")
    return Path(next(iter(spec.submodule_search_locations)))


def ids(tokenizer, text, *, fast=False):
    """The ids that tokenry gives, with the engine for long texts where `fast` is set."""
    run = encoding.runner(tokenizer.opened, tokenizer.special)
    run._seen = 2 * encoding.WORTH_LOADING if fast else -(1 << 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tokenizer.encode(text).ids.tolist()
