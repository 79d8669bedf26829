"""How likely a text is to a causal model that has read something before it, and how likely it makes what follows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.compress.scores.information import beginning, surprise
from tokenry.core.progress import counted
from tokenry.models.files.load import LanguageModel

NOTHING = torch.zeros(0, dtype=torch.long)


@torch.no_grad()
def log_likelihood(
    model: LanguageModel,
    ids: Int[Tensor, "T"],
    windows: Sequence[tuple[int, int, int]],
    *,
    before: Int[Tensor, "P"] = NOTHING,
    after: Int[Tensor, "S"] = NOTHING,
) -> tuple[Float[Tensor, "T"], Float[Tensor, "W S"]]:
    """log p of every token of a text, and of the tokens `after` it for each of its windows, in nats.

    Every window is read as: the model's mark for a beginning, `before`, the tokens of the window, `after`.

    Args:
        windows: first token of each window, its first token that no window before had, and its end.
        before: what the model reads first, such as a question; its own likelihood is not measured.
        after: what follows the text.
    """
    head = torch.cat((beginning(model), before))
    text, following = torch.zeros(len(ids)), []
    for start, fresh, end in counted(windows, "reading chunk", len(windows)):
        read = surprise(model, torch.cat((head, ids[start:end], after)), len(head) + fresh - start)
        text[fresh:end], behind = (-read).split((end - fresh, len(after)))
        following.append(behind)
    return text, torch.stack(following)
