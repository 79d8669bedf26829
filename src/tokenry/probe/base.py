"""Room: probe. Look at a model and change nothing: tables of numbers, a picture and a few sentences."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from tokenry.core.errors import InvalidValue
from tokenry.core.method import Method
from tokenry.core.tokens import TokenBatch
from tokenry.models.attention.rest import evaluating
from tokenry.probe.reports.report import Report


class Probe(Method):
    """A method that looks at a model while it reads, and leaves everything as it was.

    While it looks, no module is training and no gradient is taken; hooks and switches that it needs are gone when it
    is done, also after an error. It draws nothing from the global random state.
    """

    room: ClassVar[str] = "probe"
    compares: ClassVar[bool] = False
    """Whether several batches, each a domain with a name, may be looked at beside each other."""

    @abstractmethod
    def observe(self, model: Any, domains: Mapping[str, TokenBatch]) -> Report:
        """Look at the model while it reads each of the batches; one batch alone has the name ``."""

    def look(self, model: Any, batch: TokenBatch | Mapping[str, TokenBatch]) -> Report:
        """Look at a model while it reads.

        Args:
            model: a network, or what holds one as `model`, such as a `LanguageModel`.
            batch: what it reads; several batches by name where the probe compares domains.

        Raises:
            InvalidValue: nothing to read, or several batches for a probe that does not compare.
            UnsupportedModel: a model that this probe cannot look into.
        """
        domains = {"": batch} if isinstance(batch, TokenBatch) else dict(batch)
        if not domains or (len(domains) > 1 and not self.compares):
            raise InvalidValue(
                f"{self.name()}: batch must be {'at least one batch' if self.compares else 'one batch'}; "
                f"got {len(domains)}."
            )
        for name, read in domains.items():
            if not bool(read.mask.any()):
                raise InvalidValue(f"{self.name()}: batch {name!r} must hold a token; got only padding.")
        with torch.no_grad(), evaluating(network_of(model)):
            return self.observe(model, domains)


def network_of(model: Any) -> nn.Module:
    """The network itself, which a wrapper holds as `model`.

    Raises:
        InvalidValue: no network.
    """
    found = model if hasattr(model, "config") or not hasattr(model, "model") else model.model
    if not isinstance(found, nn.Module):
        raise InvalidValue(f"model: must be a network or hold one as `model`; got {type(model).__name__}.")
    return found
