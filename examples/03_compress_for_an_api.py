"""Shorten a text for a model behind an API: what you send is text, counted in that model's tokens."""

from __future__ import annotations

from tokenry import Document, LexicalRelevance, Pipeline
from tokenry.data import read
from tokenry.models.files.load import load_tokenizer

ASK = "How many aircraft a year was the United States producing by 1943?"


def main() -> None:
    # Any fast tokenizer will do: the budget should count what the API counts.
    tokenizer = load_tokenizer("smollm2")
    text = read("sotu_1975")

    def count(what: str) -> int:
        return len(tokenizer(what, add_special_tokens=False, verbose=False)["input_ids"])

    for budget in (1000, 300, 100):
        short = Pipeline([LexicalRelevance(budget=budget)]).compress(text, tokenizer, ASK)
        print(f"budget {budget:4}: {count(text)} -> {count(short)} tokens, answer inside: {'125,000' in short}")

    print("\nThe last one reads:\n")
    print(short)

    title = text.index("\n")
    kept = Document(text, protect=((0, title),))
    short = Pipeline([LexicalRelevance(budget=60)]).compress(kept, tokenizer, ASK)
    print(f"\nWith the first line protected, {count(short)} tokens:\n")
    print(short)


if __name__ == "__main__":
    main()
