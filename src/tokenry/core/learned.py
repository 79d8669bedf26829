"""The base of what is learned: fields are configuration, parameters come with `build` and are saved beside them."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from abc import abstractmethod
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import FrozenInstanceError, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.method import Method, Part, Value
from tokenry.core.saving import read_json, whole_folder

CONFIGURATION, PARAMETERS = "method.json", "method.safetensors"

_outer: ContextVar[torch.Generator | None] = ContextVar("_outer", default=None)
"""What the weights of the method being built are drawn from, while there is one."""


class Unbuilt(InvalidValue, AttributeError):
    """Parameters of something learned were used before they exist; `hasattr` and `getattr` take it as absence."""


class Learning(Value, nn.Module):
    """A value with parameters, declared `@dataclass(eq=False, repr=False, kw_only=True)`.

    Fields are configuration and set once. Parameters do not exist before `build` or `load`; using them earlier is
    refused. A field may hold something else that is learned: `make` builds it, or it was built before, and then is
    saved and loaded with its own sizes. Two values are equal only when they are the same object.

        class Codebook(Learned):
            codes: int = positive(512, doc="vectors in the table")

            def make(self, *, width: int) -> None:
                self.table = nn.Parameter(torch.randn(self.codes, width))

        Codebook(codes=64).build(width=128)
    """

    _sizes: dict[str, int] | None
    _ready: tuple[str, ...]
    """Fields that were built before their owner."""
    folder: Path | None
    """Where it was saved to or loaded from last."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        # A dataclass sets its fields in __init__, where modules must be ready to take them.
        self = super().__new__(cls)
        nn.Module.__init__(self)
        self._sizes = None
        self._ready = ()
        self.folder = None
        self._kept = ""
        return self

    def __post_init__(self) -> None:
        declared = type(self).__dataclass_params__  # type: ignore[attr-defined]
        assert not declared.eq, f"{type(self).__name__}: declare it with @dataclass(eq=False, repr=False, kw_only=True)"
        super().__post_init__()
        for f in fields(self):  # type: ignore[arg-type]
            part = getattr(self, f.name)
            if isinstance(part, nn.Module):
                # A default is one object for all owners, whose parameters must be their own.
                shared = part is f.default
                own = copy.deepcopy(part) if shared else part
                object.__setattr__(self, f.name, own)
                self._modules[f.name] = own

    @abstractmethod
    def make(self, *args: Any, **kwargs: Any) -> None:
        """Create parameters, buffers and modules; the keyword arguments of the override are the sizes."""

    @property
    def built(self) -> bool:
        """Whether the parameters exist."""
        return self._sizes is not None

    def build(self, *, generator: torch.Generator | None = None, **sizes: int) -> Self:
        """Create the parameters, in memory of the processor; the global random state stays as it was.

        Args:
            generator: draws the seed of all weights; without one it is always the same seed, and for a part that is
                built by its owner the owner's.
            sizes: what the method asks for, such as `width`.

        Raises:
            InvalidValue: sizes that `make` does not ask for, or a second build.
        """
        self._check(sizes)
        generator = generator or _outer.get() or torch.Generator().manual_seed(0)
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
        state = torch.get_rng_state()
        outer = _outer.set(torch.default_generator)
        learnt = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        self._ready = tuple(name for name, part in learnt if isinstance(part, Learning) and part.built)
        try:
            # torch.manual_seed would also reach the accelerators.
            torch.default_generator.manual_seed(seed)
            with torch.inference_mode(False), torch.device("cpu"):
                self.make(**sizes)
        finally:
            _outer.reset(outer)
            torch.set_rng_state(state)
        self._sizes = dict(sizes)
        return self

    def save(self, folder: str | Path) -> None:
        """Write configuration, sizes and parameters to a folder, whole or not at all.

        Raises:
            Unbuilt: there is nothing to save yet.
            StorageError: the folder cannot be written.
        """
        if self._sizes is None:
            raise self._unbuilt("save")
        given = self.to_dict()
        values = {self._key: given.pop(self._key), "fields": given, **self._built()}
        # Tied parameters share memory, which the format forbids.
        tensors = {name: t.detach().cpu().clone().contiguous() for name, t in self.state_dict().items()}
        with whole_folder(Path(folder)) as draft:
            (draft / CONFIGURATION).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            save_file(tensors, draft / PARAMETERS)
        self._keep(folder)

    def digest(self) -> str:
        """What tells its numbers from others: a hash of all parameters and buffers."""
        hashed = hashlib.sha256()
        for name, t in sorted(self.state_dict().items()):
            hashed.update(name.encode() + t.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        return hashed.hexdigest()

    @property
    def saved(self) -> bool:
        """Whether its folder holds the numbers that it has now."""
        return self.folder is not None and self._kept == self.digest()

    def _keep(self, folder: str | Path) -> None:
        self.folder, self._kept = Path(folder).resolve(), self.digest()

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote, on the processor and with the saved types of numbers; nothing in the files is executed.

        Raises:
            StorageError: a file is missing, damaged, of another method, or does not fit the configuration.
            InvalidValue: a field or a size that the method does not have or that its rule forbids.
        """
        file = Path(folder) / CONFIGURATION
        values, name = read_json(file), f"{cls.room}/{cls.name()}"
        if values.get(cls._key) != name:
            raise StorageError(f"{file}: must hold {name}; got {values.get(cls._key)!r}; load it with its own class.")
        wanted = {key: values.get(key) for key in ("fields", "sizes")}
        if set(values) - {"parts"} != {cls._key, *wanted} or not isinstance(wanted["fields"], dict):
            found = ", ".join(values)
            raise StorageError(f"{file}: must hold {cls._key}, fields and sizes; got {found}; save it again.")
        method = cls.from_dict(wanted["fields"])
        method._rebuild(values, file)
        method._fill(Path(folder) / PARAMETERS)
        method._keep(folder)
        return method

    @classmethod
    def at(cls, folder: str | Path) -> Self:
        """What a folder holds, ready to use: read once, and again when it was saved anew."""
        path = Path(folder).expanduser()
        weights = path / PARAMETERS
        return cast(Self, _loaded(cls, path, weights.stat().st_mtime_ns if weights.exists() else 0))

    def _built(self) -> dict[str, Any]:
        """The sizes it was built with, and those of the fields that were built before it."""
        parts = {name: getattr(self, name)._built() for name in self._ready}
        return {"sizes": self._sizes} | ({"parts": parts} if parts else {})

    def _rebuild(self, values: Mapping[str, Any], file: Path) -> None:
        sizes, parts = values.get("sizes"), values.get("parts", {})
        if not isinstance(sizes, dict) or not isinstance(parts, dict):
            raise StorageError(
                f"{file}: must hold sizes and parts by name; got {sizes!r} and {parts!r}; save it again."
            )
        for name, part in parts.items():
            inner = getattr(self, name, None)
            if not isinstance(inner, Learning) or not isinstance(part, dict):
                raise StorageError(f"{file}: {name!r} must be a field with parameters; it is none; save it again.")
            inner._rebuild(part, file)
        self.build(**sizes)

    def extra_repr(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return ", ".join(f"{name}={value!r}" for name, value in shown.items() if not isinstance(value, nn.Module))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).__dataclass_fields__:  # type: ignore[attr-defined]
            super().__setattr__(name, value)
        elif name in self.__dict__:
            raise FrozenInstanceError(f"{type(self).__name__}: field {name!r} is set once; make a new value.")
        else:
            # A part would go where the field's default, which is an attribute of the class, hides it.
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or self.built:
                raise
        raise self._unbuilt(name)

    def _unbuilt(self, wanted: str) -> Unbuilt:
        sizes = ", ".join(f"{name}=…" for name in inspect.signature(self.make).parameters)
        return Unbuilt(f"{self.name()}: must be built before {wanted!r} is used; call build({sizes}) or load a folder.")

    def _check(self, sizes: Mapping[str, int]) -> None:
        if self.built:
            raise InvalidValue(f"{self.name()}: must be built once; it is built already; make a new value.")
        wanted = inspect.signature(self.make)
        try:
            wanted.bind(**sizes)
        except TypeError as error:
            names = ", ".join(wanted.parameters) or "no size"
            raise InvalidValue(f"{self.name()}: build must be given {names}; {error}.") from error
        for name, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise InvalidValue(f"{self.name()}: {name} must be a whole number of at least 1; got {size!r}.")

    def _fill(self, file: Path) -> None:
        """Take the values of all parameters and buffers from a file that holds exactly these."""
        try:
            found = load_file(file)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{file}: must be a whole safetensors file; {error}.") from error
        mine: dict[str, Tensor] = self.state_dict(keep_vars=True)
        for name in sorted(mine.keys() ^ found.keys()):
            state = "is missing" if name in mine else "is unknown"
            raise StorageError(f"{file}: must hold the parameters of {self.name()} and no others; {name!r} {state}.")
        for name, here in mine.items():
            there = found[name]
            alike = there.dtype == here.dtype or (there.is_floating_point() and here.is_floating_point())
            if there.shape != here.shape or not alike:
                raise StorageError(
                    f"{file}: {name!r} must be {here.dtype} of shape {tuple(here.shape)}; "
                    f"got {there.dtype} of shape {tuple(there.shape)}; save it again."
                )
        with torch.inference_mode(False):
            for name, here in mine.items():
                # In place of load_state_dict, which would cast to the types of a fresh build.
                here.data = found[name].clone()


class Learned(Learning, Method):
    """A method with parameters."""

    def rate_of(self, name: str) -> float:
        """How many times as fast as the training says a parameter learns."""
        return 1.0


class LearnedPart(Learning, Part):
    """A part of a method with parameters; the method's `make` builds it."""


@lru_cache(maxsize=8)
def _loaded(kind: type[Learning], folder: Path, saved: int) -> Learning:
    return kind.load(folder).eval()
