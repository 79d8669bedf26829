"""Heads that predict tokens further on: copies of a layer, behind which stand the model's own norm and output rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.learn.training.beside import fill_beside, save_beside
from tokenry.models.attention.adapter import ModelAdapter, unwrap
from tokenry.models.attention.rest import evaluating
from tokenry.models.text.lookup import close

NAME = "concept_heads"
COPIES = {"last": -1, "second_last": -2}


class ConceptHeads(nn.Module):
    """Head k says what stands k tokens after the next one.

    All of them read what the last layer reads. They hold a layer each; the norm and the output rows behind it are those
    of the model, are reached and not held.

    Args:
        model: a causal model, perhaps inside a wrapper; LoRA matrices in it are not copied.
        count: heads.
        copied: which layer they begin as, a key of `COPIES`.

    Raises:
        UnsupportedModel: a last layer, run again, does not give the model's logits.
    """

    def __init__(self, model: Any, count: int, copied: str) -> None:
        super().__init__()
        adapter = ModelAdapter.of(unwrap(model))
        base: Any = adapter.model
        stacks = {place.stack for place in adapter.sites.values() if place.kind == "self"}
        stack = next(iter(stacks)) if len(stacks) == 1 else ""
        layers: Any = base.get_submodule(stack) if stack else None
        if layers is None or len(layers) < 2 or base.get_output_embeddings() is None:
            raise UnsupportedModel(f"{type(base).__name__}: must be a causal model of one list of layers; it is not.")
        # Tuples, so that what belongs to the model is no part of this module.
        self._reader, self._copied = (layers[-1],), (layers[COPIES[copied]],)
        self._output = (base.get_output_embeddings(),)
        self._after: tuple[nn.Module, ...] = ()
        self._hidden: Tensor | None = None
        self._given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._prove(base, base.get_submodule(stack.rpartition(".")[0]), layers)
        self.layers = nn.ModuleList(_plain(layers[COPIES[copied]]) for _ in range(count))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While the model runs; what its layers read is kept until the next forward."""
        hooks = [
            self._copied[0].register_forward_pre_hook(self._note, with_kwargs=True),
            self._reader[0].register_forward_pre_hook(self._read, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self.forget()

    def forget(self) -> None:
        """Let go of the last forward."""
        self._hidden, self._given = None, ((), {})

    def forward(self, k: int) -> Float[Tensor, "B N E"]:
        """What stands before the output rows at head k, after the last forward of the model."""
        if self._hidden is None:
            raise InvalidValue(
                "concept_aware: the model must have read the batch; it did not run; call model(**watch.inputs(batch)) "
                "inside the block `with objective(model) as watch`."
            )
        return self._behind(self.layers[k])

    def logits(self, states: Float[Tensor, "T E"]) -> Float[Tensor, "T V"]:
        """The output rows of the model."""
        found: Tensor = self._output[0](states)
        return found

    def save(self, folder: str | Path) -> None:
        """Write the layers to a file in a folder, whole or not at all."""
        save_beside(self, folder, NAME)

    def fill(self, folder: str | Path) -> None:
        """Take what `save` wrote.

        Raises:
            StorageError: the file is missing, damaged, or of other heads.
        """
        fill_beside(self, folder, NAME)

    def _behind(self, layer: nn.Module) -> Tensor:
        args, kwargs = self._given
        assert self._hidden is not None
        states = layer(self._hidden, *args, **kwargs)
        states = states[0] if isinstance(states, tuple) else states
        for module in self._after:
            states = module(states)
        return states

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._given = args[1:], {name: value for name, value in kwargs.items() if name != "hidden_states"}

    def _read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._hidden = args[0] if args else kwargs["hidden_states"]

    @torch.no_grad()
    def _prove(self, base: Any, owner: nn.Module, layers: nn.ModuleList) -> None:
        """Find what runs between the last layer and the output rows, and run the last layer again."""
        after: list[nn.Module] = []
        done = layers[-1].register_forward_hook(lambda *_: after.clear())
        hooks = [
            child.register_forward_hook(lambda module, *_: after.append(module))
            for child in owner.children()
            if child is not layers
        ]
        ids = torch.arange(7, device=base.get_input_embeddings().weight.device)[None] * 3 % base.config.vocab_size
        copied, self._copied = self._copied, self._reader
        try:
            with evaluating(base), self.attached():
                logits = base(input_ids=ids, use_cache=False).logits
                self._after = tuple(after)
                again = self.logits(self._behind(layers[-1]))
        finally:
            self._copied = copied
            for hook in (done, *hooks):
                hook.remove()
        if not close(logits, again):
            raise UnsupportedModel(
                f"{type(base).__name__}: its last layer, run again, must give its logits; it does not."
            )


def _plain(layer: nn.Module) -> nn.Module:
    """A copy of a layer without adapters, whose weights all learn."""
    found = copy.deepcopy(layer)
    for name, module in list(found.named_modules()):
        if hasattr(module, "get_base_layer"):
            owner, _, last = name.rpartition(".")
            setattr(found.get_submodule(owner), last, module.get_base_layer())
    for weight in found.parameters():
        weight.requires_grad_(True)
        weight.grad = None
    return found
