"""Prove on a small input that leaving tokens out between layers is the same as masking them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tokenry.core.errors import UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.axes import hooked
from tokenry.models.attention.between import Blocks, Change, Stream, View
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.rest import proving
from tokenry.models.attention.site import Site

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}


def proven_blocks(adapter: ModelAdapter, stack: str) -> Blocks:
    """The layers of a stack, whose tokens may be changed; made and proven once."""
    with proving:
        if stack not in adapter.blocks:
            blocks = Blocks(adapter, stack)
            prove_removal(blocks)
            adapter.add_blocks(blocks)
        return adapter.blocks[stack]


def prove_removal(blocks: Blocks) -> None:
    """Leave tokens out before the second layer: what the last layer says of all others must be as if masked.

    A model that needs one state per column after its layers is noted as such in `blocks.whole`.

    Raises:
        UnsupportedModel: it does not run with fewer tokens, or says something else.
    """
    adapter = blocks.adapter
    with adapter.experimenting("must run small inputs"):
        experiment = Experiment(adapter.model)
    masked = _states(blocks, experiment, masked=True)
    try:
        found = _states(blocks, experiment, masked=False)
    except UnsupportedModel:
        blocks.whole = True
        found = _states(blocks, experiment, masked=False)
    count = masked[0].shape[1]
    wanted, found = (
        [_comparable(s, count, experiment) for s in masked],
        [_comparable(s, count, experiment) for s in found],
    )
    share = TOLERANCE.get(adapter.model.dtype, 5e-2)
    for a, b in zip(wanted, found, strict=True):
        error, allowed = (a - b).abs().max().item(), share * max(1.0, a.abs().max().item())
        if not error <= allowed:
            raise UnsupportedModel(
                f"{blocks}: leaving tokens out between layers must be the same as masking them; the last layer "
                f"differs by {error:.2g} where {allowed:.2g} is allowed; this family cannot do it."
            )


def _states(blocks: Blocks, experiment: Experiment, *, masked: bool) -> list[Tensor]:
    """What the last layer says of the input, and of one token after it."""
    adapter = blocks.adapter
    said: list[Tensor] = []

    def listen(_: nn.Module, __: Any, output: Any) -> None:
        said.append(output if isinstance(output, Tensor) else output[0])

    def hide(site: Site) -> Tensor:
        if site.stack != blocks.stack or site.layer == 0 or site.kind == "cross":
            return site.dense()
        index = torch.stack([_stays(row, site.k.shape[2]) for row in range(len(site.k))])
        return site.narrow(index.unsqueeze(1)).dense()

    # The listener is registered last, so that it hears what the stream gives the model.
    with (
        adapter.experimenting("must run with fewer tokens between its layers"),
        adapter.attached_to(lambda _: hide if masked else _LeaveOut(blocks.stack)),
        blocks.hooked(),
        hooked(blocks.blocks[-1].register_forward_hook(listen)),
    ):
        _go(experiment)
    return said


def _go(experiment: Experiment) -> None:
    cache = experiment.new_cache()
    experiment.run(cache)
    if cache is not None:
        experiment.step(cache)


class _LeaveOut:
    """Dense attention among the tokens that stay."""

    def __init__(self, stack: str) -> None:
        self.stack = stack

    def __call__(self, site: Site) -> Tensor:
        return site.dense()

    def stream(self, stack: str) -> Stream | None:
        return Stream(_leave_out) if stack == self.stack else None


def _leave_out(view: View) -> Change | None:
    if view.layer != 1 or view.total == 1:
        return None
    n = view.hidden.shape[1]
    return view.keep(torch.stack([_stays(row, n) for row in range(len(view.hidden))]))


def _stays(row: int, count: int) -> Tensor:
    """All but two columns, others in every row."""
    gone = (1, 3) if row % 2 == 0 else (3, 4)
    return torch.tensor([i for i in range(count) if i not in gone])


def _comparable(states: Tensor, count: int, experiment: Experiment) -> Tensor:
    """The states of the tokens that stay, of `count`; those of padding are nobody's business."""
    rows = range(len(states))
    index = torch.stack([_stays(row, count) for row in rows]).to(states.device)
    if states.shape[1] == count:
        states = states.gather(1, index.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
    mask = experiment.inputs.get("attention_mask")
    if mask is not None and mask.shape[1] == count and states.shape[1] == index.shape[1]:
        states = states * mask.gather(1, index).unsqueeze(-1)
    return states
