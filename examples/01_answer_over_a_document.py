"""Answer a question over a speech with a quarter of its tokens, and print what it cost."""

from __future__ import annotations

from tokenry import DenseRelevance, Pipeline, TokenSelect, load
from tokenry.data import is_correct, questions, read


def main() -> None:
    question = next(q for q in questions() if q.id == "sotu-1975-05")
    document = read(question.document)
    model = load("smollm2")

    pipeline = Pipeline([DenseRelevance(budget=0.25), TokenSelect(budget=256)])
    trace = pipeline.generate(document, model, ask=question.ask, max_new=48)

    print(question.ask)
    print(trace.answer)
    print("correct" if is_correct(question, trace.answer) else f"not correct; accepted: {question.answers}")

    receipt, seconds = trace.receipt, trace.receipt.seconds
    print()
    for step in receipt.steps:
        print(f"{step.room}/{step.method}: {step.tokens_in} -> {step.tokens_out} tokens, {step.seconds:.1f} s")
    print(f"first token after {seconds.first_token:.1f} s, then {receipt.tokens_per_second:.1f} tokens a second")
    print(f"{receipt.flops / 1e12:.2f} T operations, {receipt.kv_bytes / 1e6:.0f} MB of keys and values held")

    print("\nPassages that the answer repeats:")
    for passage in trace.recover():
        print(f"  {passage.text!r}")


if __name__ == "__main__":
    main()
