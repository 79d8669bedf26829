"""Which axes of a layer's arguments count tokens and rows: learnt by running inputs of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenry.core.errors import UnsupportedModel
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.mask import MaskFacts

Path = tuple[str | int, ...]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Axes:
    """How to give a layer other tokens.

    Args:
        hidden: where among the arguments the tokens themselves are, (B, N, E).
        tokens: for every other tensor that counts tokens, the axes that do.
        rows: for these, the axis that counts rows; None where rows share the tensor.
    """

    hidden: Path
    tokens: dict[Path, tuple[int, ...]]
    rows: dict[Path, int | None]

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Float[Tensor, "B N E"]:
        """The tokens among the arguments."""
        found = {path: leaf for path, leaf in leaves((args, kwargs)) if path == self.hidden}
        return found[self.hidden]

    def change(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Float[Tensor, "B M E"],
        columns: Int[Tensor, "B M"] | None, total: int,
    ) -> Arguments:  # fmt: skip
        """The arguments for the tokens `hidden`, which stand at `columns` (-1 for none) of `total`."""

        def changed(path: Path, leaf: Tensor) -> Tensor:
            if path == self.hidden:
                return hidden
            if columns is None:
                return leaf
            for axis in self.tokens.get(path, ()):
                if leaf.shape[axis] == total:
                    leaf = _take(leaf, axis, self.rows[path], columns.clamp_min(0))
                elif leaf.shape[axis] != hidden.shape[1]:
                    raise UnsupportedModel(
                        f"layer: an argument must have one entry for each of {total} tokens, or for the "
                        f"{hidden.shape[1]} that are left; got {leaf.shape[axis]}."
                    )
            return leaf

        return rebuild((args, kwargs), changed)


def facts_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskFacts | None:
    """What the arguments say about visibility among the tokens of the stack."""
    return next((v for v in (*args, *kwargs.values()) if isinstance(v, MaskFacts)), None)


def learn_axes(model: PreTrainedModel, blocks: list[nn.Module]) -> Axes:
    """Run two rows of a text, then a longer one, then three rows, and look at the arguments of the second layer."""
    base = _arguments(Experiment(model), blocks)
    longer = _arguments(Experiment(model, text=8), blocks)
    more = _arguments(Experiment(model, rows=3), blocks)
    hidden = next((path for path, leaf in base.items() if leaf.is_hidden), None)
    if hidden is None or len(base[hidden].shape) != 3:
        raise UnsupportedModel(
            f"{type(model).__name__}: every layer must take the tokens of the last one as (B, N, E)."
        )
    count = base[hidden].shape[1]
    grown = longer[hidden].shape[1]
    tokens, rows = {}, {}
    for path, leaf in base.items():
        if path == hidden or path not in longer or path not in more:
            continue
        # Where the tokens cannot become more, as those of an image, an axis of their number counts them.
        sizes = zip(leaf.shape, longer[path].shape, strict=True)
        axes = tuple(i for i, (a, b) in enumerate(sizes) if (a, b) == (count, grown))
        if axes:
            tokens[path] = axes
            changes = [i for i, (a, b) in enumerate(zip(leaf.shape, more[path].shape, strict=True)) if a != b]
            one = 0 if leaf.shape[0] == 1 and 0 not in axes else None
            rows[path] = changes[0] if changes else one
    return Axes(hidden, tokens, rows)


@dataclass(frozen=True, slots=True)
class _Leaf:
    shape: tuple[int, ...]
    is_hidden: bool


def _arguments(experiment: Experiment, blocks: list[nn.Module]) -> dict[Path, _Leaf]:
    found: dict[Path, _Leaf] = {}
    last: list[Tensor] = []

    def after(_: nn.Module, __: Any, output: Any) -> None:
        last[:] = [output if isinstance(output, Tensor) else output[0]]

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.update({path: _Leaf(tuple(t.shape), t is last[0]) for path, t in leaves((args, kwargs))})

    with hooked(blocks[0].register_forward_hook(after), blocks[1].register_forward_pre_hook(before, with_kwargs=True)):
        experiment.run()
    return found


@contextmanager
def hooked(*hooks: Any) -> Iterator[None]:
    """Remove these hooks at the end of the block."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _take(leaf: Tensor, axis: int, row_axis: int | None, columns: Int[Tensor, "B M"]) -> Tensor:
    """Entries `columns` along `axis`, for each row its own."""
    if row_axis is None:
        if not bool((columns == columns[:1]).all()):
            raise UnsupportedModel(
                "layer: an argument must have a row for each sequence where these keep different tokens; one has not."
            )
        return leaf.index_select(axis, columns[0])
    b, m = columns.shape
    leaf = leaf.expand(*(b if i == row_axis else size for i, size in enumerate(leaf.shape)))
    index = columns.view([b if i == row_axis else m if i == axis else 1 for i in range(leaf.ndim)])
    if axis < row_axis:
        index = columns.T.reshape([b if i == row_axis else m if i == axis else 1 for i in range(leaf.ndim)])
    return leaf.gather(axis, index.expand([m if i == axis else size for i, size in enumerate(leaf.shape)]))


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """All tensors of nested tuples, lists and dictionaries, with where they are."""
    if isinstance(tree, Tensor):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        for i, value in enumerate(tree):
            yield from leaves(value, (*path, i))


def rebuild(tree: Any, change: Callable[[Path, Tensor], Tensor], path: Path = ()) -> Any:
    """The same tree with changed tensors."""
    if isinstance(tree, Tensor):
        return change(path, tree)
    if isinstance(tree, dict):
        return {key: rebuild(value, change, (*path, key)) for key, value in tree.items()}
    if isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        return type(tree)(rebuild(value, change, (*path, i)) for i, value in enumerate(tree))
    return tree
