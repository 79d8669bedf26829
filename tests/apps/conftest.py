"""A model small enough to answer in a second, and something to ask it about."""

from __future__ import annotations

import pytest
import torch

from tokenry.data.image import write_image
from tokenry.data.sound import Sound, write_sound
from tokenry.models.files.tiny import tiny


@pytest.fixture(scope="session")
def small(tmp_path_factory, smollm2):
    """A folder with random weights and the default model's tokenizer and context of 2,048 tokens."""
    folder = tmp_path_factory.mktemp("small") / "model"
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=2048)
    model.save_pretrained(folder)
    smollm2.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def document(tmp_path):
    """A document of about 500 tokens."""
    from tokenry.data import read

    file = tmp_path / "report.txt"
    file.write_text(read("sotu_1975")[:2400], encoding="utf-8")
    return file


@pytest.fixture
def photo(tmp_path):
    pixels = torch.randint(256, (9, 14, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    write_image(pixels, tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def speech(tmp_path):
    write_sound(Sound((torch.arange(3000) / 9).sin() * 0.4, 8000), tmp_path / "speech.wav")
    return tmp_path / "speech.wav"
