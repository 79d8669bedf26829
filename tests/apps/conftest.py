"""The command line in this process, and files for it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from tokenry.data.image import write_image
from tokenry.data.sound import Sound, write_sound


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


@pytest.fixture
def upstream():
    from tests.apps.gateways import Upstream

    return Upstream()


@pytest.fixture
def gateway(upstream, tmp_path):
    """A gateway with some settings, in front of the upstream; its client."""
    from tests.apps.gateways import gateway_to

    @contextmanager
    def made(**settings):
        with gateway_to(upstream.app(), tmp_path, **settings) as (client, made.gateway):
            yield client

    return made
