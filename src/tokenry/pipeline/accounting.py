"""Make the receipt of one run from what was prepared, read and said."""

from __future__ import annotations

from tokenry.attend.running.run import held_bytes
from tokenry.compress.base import Compressor
from tokenry.core.memory import peak_bytes
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate.answer import Answer
from tokenry.models.generate.cost import cache_geometry, flops, row_bytes
from tokenry.pipeline.preparing import Prepared
from tokenry.pipeline.receipt import Receipt, Seconds, StepCost
from tokenry.pipeline.stages import Stages
from tokenry.pipeline.trace import document_tokens


def account(
    language: LanguageModel, stages: Stages, prepared: Prepared, said: Answer, *, loaded: float, given: int
) -> Receipt:
    """What an answer cost.

    Args:
        loaded: seconds of loading.
        given: columns of the prompt whose keys and values were there before.
    """
    n, new = prepared.final.shape[1], len(said.ids)
    if said.run is None:
        read = tuple(float(n + i) for i in range(1, new))
        layers = cache_geometry(language)[0]
        fresh = n - given
        pairs = layers * (fresh * given + fresh * (fresh + 1) / 2 + sum(read))
        bytes_read = int(row_bytes(language) * (n + sum(read)))
    else:
        read, pairs, bytes_read = tuple(said.run.reads.per_step), said.run.reads.pairs, said.run.reads.bytes
    return Receipt(
        steps=tuple(_steps(stages, prepared, said, read)),
        prompt_tokens=n,
        new_tokens=new,
        read_per_step=read,
        seconds=Seconds(
            load=loaded, prefill=said.prefill, decode=said.decode, first_token=prepared.seconds + said.prefill
        ),
        tokens_per_second=(new - 1) / said.decode if new > 1 and said.decode > 0 else 0.0,
        flops=flops(language, n - given + new - 1, new, pairs),
        kv_bytes=0 if said.cache is None else held_bytes(said.cache),
        bytes_read=bytes_read,
        peak_bytes=peak_bytes(),
        notes=() if said.run is None else said.run.reads.notes,
    )


def _steps(stages: Stages, prepared: Prepared, said: Answer, read: tuple[float, ...]) -> list[StepCost]:
    costs = []
    for change in prepared.changes:
        # Soft tokens are of no document.
        count = document_tokens if isinstance(change.method, Compressor) else _real_tokens
        costs.append(
            StepCost(
                method=change.method.name(), room=change.method.room, seconds=change.seconds,
                tokens_in=count(change.before), tokens_out=count(change.batch),
            )
        )  # fmt: skip
    n = prepared.final.shape[1]
    if stages.attention is not None:
        costs.append(
            StepCost(
                method=stages.attention.name(), room=stages.attention.room, seconds=said.prefill + said.decode,
                tokens_in=n, tokens_out=round(sum(read) / len(read)) if read else n,
            )
        )  # fmt: skip
    if stages.decoder is not None:
        costs.append(
            StepCost(
                method=stages.decoder.name(), room=stages.decoder.room, seconds=said.decode,
                tokens_in=n, tokens_out=len(said.ids),
            )
        )  # fmt: skip
    return costs


def _real_tokens(batch: TokenBatch) -> int:
    return int(batch.mask.sum())
