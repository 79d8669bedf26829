"""Follow tokens through steps: every column knows which bytes of which text it stands for."""

from __future__ import annotations

import torch

from tokenry import Document, LexicalRelevance, TokenBatch, load
from tokenry.compress.kept.text import text_of
from tokenry.models.text.prompt import prompt

TEXT = (
    "The lamp is fed with oil. It is lit every evening at six. The keeper lives in the tower with two cats. "
    "In winter the oil is warmed first. Visitors come on Sundays."
)
ASK = "What is done with the oil in winter?"


def main() -> None:
    language = load("smollm2")
    batch = prompt(language.tokenizer, [Document(TEXT, "lamp")], ask=ASK)
    print(f"{batch.shape[1]} tokens, of which {int(batch.protected.sum())} belong to the template and the question")

    less = LexicalRelevance(budget=0.4).compress(batch, ASK)
    print(f"\nA compressor keeps {less.shape[1]}. What is left of the text:\n  {text_of(less)!r}")

    gone = less.survival()[0] == 0
    print(f"\n{int(gone.sum())} originals have no weight any more. The first of them:")
    for original in gone.nonzero()[:5, 0].tolist():
        print(f"  original {original}: {original_text(batch, original)!r}")

    column = int((~less.protected[0]).nonzero()[0])
    (original,) = less.fate.originals(0, column)
    print(f"\nColumn {column} is now original {original}: {original_text(batch, original)!r}")

    table = language.model.get_input_embeddings().weight.detach().float()
    merged = merge_pairs(less, table)
    print(f"\nMerging neighbours leaves {merged.shape[1]} columns. Column {column // 2} stands for:")
    for original in merged.fate.originals(0, column // 2):
        print(f"  original {original}: {original_text(batch, original)!r}")
    before, after = (float(b.survival().sum()) for b in (less, merged))
    print(f"\nThe weight of all originals that are left: {before:.0f} before merging, {after:.0f} after.")


def original_text(batch: TokenBatch, original: int) -> str:
    """The bytes that an original token covers."""
    source = batch.origin.sources[int(batch.origin.source[0, original])]
    start, stop = batch.origin.spans[0, original, :2].tolist()
    return source.data.encode()[start:stop].decode(errors="replace")


def merge_pairs(batch: TokenBatch, table: torch.Tensor) -> TokenBatch:
    """Put every two columns into one, whose embedding is their mean."""
    assert batch.ids is not None
    group = torch.arange(batch.shape[1])[None] // 2
    count = torch.bincount(group[0])
    embeds = torch.zeros(1, len(count), table.shape[1]).index_add(1, group[0], table[batch.ids[0]][None])
    return batch.merge(group, embeds / count[None, :, None])


if __name__ == "__main__":
    main()
