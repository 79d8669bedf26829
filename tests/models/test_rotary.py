"""Keys turned to another position are the keys the model would have made there."""

from __future__ import annotations

import pytest
import torch

from tokenry.core.errors import UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.rotary import Rotary
from tokenry.models.files.tiny import DECODERS, tiny

OTHERWISE = ("gpt2", "opt")


@pytest.mark.parametrize("family", sorted(set(DECODERS) - set(OTHERWISE)))
def test_turned_keys_are_keys_of_the_other_position(family):
    """In every layer: relative positions do not change, so keys only turn."""
    model = tiny(family)
    rotary = Rotary.of(model)
    ids = torch.randint(3, 128, (2, 7), generator=torch.Generator().manual_seed(0))

    def keys(shift):
        found = {}

        def look(site):
            found[site.layer] = site.k
            return site.dense()

        at = (torch.arange(7) + shift).expand(2, -1)
        with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: look):
            model(input_ids=ids, position_ids=at, use_cache=False)
        return found

    near, far = keys(3), keys(160)
    for layer, key in near.items():
        there = rotary.turn(layer, key, torch.full((2, 1, 7), 157))
        torch.testing.assert_close(there, far[layer], atol=2e-4, rtol=1e-3)
        back = rotary.turn(layer, there, torch.full((2, 1, 7), -157))
        torch.testing.assert_close(back, key, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", OTHERWISE)
def test_what_does_more_with_positions_is_refused(family):
    with pytest.raises(UnsupportedModel, match="must rotate its keys by position and do nothing else"):
        Rotary.of(tiny(family))
