"""What the results show, as tables: the same ones in a terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import torch

from tokenry.measure.statistics import intervals

Document = Mapping[str, Any]
Row = Mapping[str, Any]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """A title, heads and rows of text; `words` columns from the left are words, the rest are numbers."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    def show(self) -> None:
        """Print it."""
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left")
        for i, head in enumerate(self.heads):
            table.add_column(head, justify="left" if i < self.words else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        console = Console()
        Console(width=None if console.is_terminal else 140).print(table)

    def markdown(self) -> str:
        """The same for the page."""
        rule = ["---" if i < self.words else "---:" for i in range(len(self.heads))]
        lines = (self.heads, rule, *self.rows)
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def tables(document: Document) -> list[Table]:
    """The tables of any benchmark's result."""
    return VIEWS[document["name"]](document)


def show(document: Document) -> None:
    """Print a result: tables first, claims last."""
    for table in tables(document):
        table.show()
    for line in claim_lines(document):
        print(line)


def claim_lines(document: Document) -> list[str]:
    """One sentence for everything that was to be shown."""
    return [
        f"{'Holds' if c['holds'] else 'DOES NOT HOLD'}: {c['text']}: {c['value']:g}"
        + ("" if "interval" not in c else " (95 %: {:g} to {:g})".format(*c["interval"]))
        + f"; needed: {c['needed']}."
        for c in document["claims"]
    ]


def _decode_layer(document: Document) -> list[Table]:
    heads = ("cached tokens", "arm", "append ms", "attention ms", "step ms", "times faster")
    return [
        Table(
            f"{dtype}, one layer, best of {document['settings']['repeats']} rounds",
            heads,
            [
                (f"{r['length']:,}", r["arm"], _f(r["append_ms"], 3), _f(r["attention_ms"], 3), _f(r["step_ms"], 3),
                 _x(r["times_faster"]))
                for r in rows
            ],
            words=2,
        )
        for dtype, rows in _by(document["rows"], "dtype")
    ]  # fmt: skip


def _decode_model(document: Document) -> list[Table]:
    heads = (
        "prompt", "arm", "tokens/s", "best ms/token", "times faster", "prompt s", "KV MiB held", "peak MiB", "loss",
    )  # fmt: skip
    return [
        Table(
            f"{dtype}, whole model, {document['settings']['steps']} steps after the prompt",
            heads,
            [
                (f"{r['length']:,}", r["arm"], _f(r["tokens_per_second"], 1), _f(r["best_step_ms"], 1),
                 _x(r["times_faster"]), _f(r["prefill_s"], 1), _f(r["kv_bytes"] / MIB, 1),
                 _f(r["peak_bytes"] / MIB, 0), _f(r["loss"], 3))
                for r in rows
            ],
            words=2,
        )
        for dtype, rows in _by(document["rows"], "dtype")
    ]  # fmt: skip


def _fidelity(document: Document) -> list[Table]:
    arms = _by(document["rows"], "arm")
    kl = {arm: torch.tensor([mean(r["kl"]) for r in rows]) for arm, rows in arms}
    whole = []
    for arm, rows in arms:
        loss = agreed = closer = ""
        if arm != "dense":
            loss = f"{kl[arm].mean():.4f} ({_range(intervals.of_mean(kl[arm]), 4)})"
            agreed = f"{mean(v for r in rows for v in r['top1']):.3f}"
        if arm not in ("dense", "window"):
            ends = intervals.of_ratio(kl["window"], kl[arm])
            closer = f"{_x((kl['window'].mean() / kl[arm].mean()).item())} ({_range(ends, 2)})"
        anew = "" if rows[0]["new_choices"] is None else f"{mean(r['new_choices'] for r in rows):.2f}"
        read, best = mean(r["rows_read"] for r in rows), min(r["best_step_ms"] for r in rows)
        whole.append((arm, _f(read, 1), loss, agreed, closer, anew, _f(best, 1)))
    passages, names = len(kl["dense"]), [name for name, _ in _by(document["rows"], "document")]
    parts = [
        (arm, *(_f(mean(v for r in mine for v in r["kl"]), 4) for _, mine in _by(rows, "document")))
        for arm, rows in arms
        if arm != "dense"
    ]
    heads = (
        "arm", "rows read", "KL (95 %)", "same top token", "times closer than window (95 %)", "new choices",
        "best ms/step",
    )  # fmt: skip
    return [
        Table(f"{passages * document['settings']['steps']} steps on {passages} passages", heads, whole),
        Table("KL by document", ("arm", *names), parts),
    ]


def _answers(document: Document) -> list[Table]:
    arms = _by(document["rows"], "arm")
    fits = {r["question"] for r in document["rows"] if r["arm"] == "dense" and r["correct"] is not None}
    cells = []
    for arm, rows in arms:
        right = [r["correct"] for r in rows if r["correct"] is not None]
        shared = [r["correct"] for r in rows if r["question"] in fits]
        share = _range(intervals.of_share(sum(right), len(right)), 0, 100)
        cells.append(
            (
                arm, f"{mean(r['prompt_tokens'] for r in rows):,.0f}", f"{sum(right)} of {len(right)}",
                f"{100 * mean(right):.0f} % ({share})" if right else "", f"{sum(shared)} of {len(shared)}",
                f"{sum(r['still_there'] for r in rows)} of {len(rows)}", str(len(rows) - len(right) or ""),
            )
        )  # fmt: skip
    heads = (
        "arm", "prompt tokens", "right", "share (95 %)", "right where dense fits", "answer still in the prompt",
        "too long to ask",
    )  # fmt: skip
    return [Table(f"answers to {len(_by(document['rows'], 'question'))} questions", heads, cells)]


def _first_token(document: Document) -> list[Table]:
    heads = ("document", "arm", "prompt tokens", "compression s", "prompt s", "first token s", "times faster")
    each = [
        (
            r["document"], r["arm"], f"{r['prompt_tokens']:,}", _f(r["compress_s"], 2), _f(r["prefill_s"], 2),
            _f(r["first_token_s"], 2), _x(r["times_faster"]),
        )
        for r in document["rows"]
    ]  # fmt: skip
    whole = [
        (arm, _x(median(r["times_faster"] for r in rows)), _x(min(r["times_faster"] for r in rows)))
        for arm, rows in _by(document["rows"], "arm")
        if arm != "dense"
    ]
    return [
        Table("time to the first token, times faster than dense", ("arm", "median document", "worst document"), whole),
        Table(f"median of {document['settings']['repeats']} turns", heads, each, words=2),
    ]


def _passkey(document: Document) -> list[Table]:
    places = document["settings"]["places"]
    heads = ("arm", "rows read", *(f"at {place:.0%}" for place in places), "found", "seconds")
    found = []
    for length in document["settings"]["lengths"]:
        cells = []
        for arm, rows in _by([r for r in document["rows"] if r["length"] == length], "arm"):
            right = {r["place"]: "yes" if r["correct"] else "no" for r in rows}
            cells.append(
                (
                    arm, _f(mean(r["rows_read"] for r in rows), 0), *(right.get(p, "") for p in places),
                    f"{sum(r['correct'] for r in rows)} of {len(rows)}", _f(median(r["seconds"] for r in rows), 1),
                )
            )  # fmt: skip
        if cells:
            found.append(Table(f"{length:,} tokens", heads, cells))
    return found


def _peer_llmlingua(document: Document) -> list[Table]:
    heads = ("arm", "tokens kept", "largest miss of the rate", "seconds", "there", "right")
    found = []
    for rate in document["settings"]["rates"]:
        cells = []
        for arm, rows in _by([r for r in document["rows"] if r["rate"] == rate], "arm"):
            cells.append(
                (
                    arm, f"{100 * mean(r['kept'] / r['tokens'] for r in rows):.1f} %",
                    f"{max(abs(r['kept'] - r['tokens'] * rate) for r in rows):.0f} tokens",
                    _f(mean(r["seconds"] for r in rows), 2), f"{sum(r['still_there'] for r in rows)} of {len(rows)}",
                    f"{sum(r['correct'] for r in rows)} of {len(rows)}",
                )
            )  # fmt: skip
        found.append(Table(f"rate {rate}", heads, cells))
    return found


def _token_adapt(document: Document) -> list[Table]:
    order = {arm: i for i, arm in enumerate(document["settings"]["arms"])}
    arms = sorted(_by(document["rows"], "arm"), key=lambda arm: order.get(arm[0], -1))
    names = [name for name, _ in _by(document["rows"], "document")]
    bits = {
        arm: torch.tensor([mean(r["bits_per_byte"] for r in mine) for _, mine in _by(rows, "document")])
        for arm, rows in arms
    }
    cells = []
    for arm, rows in arms:
        new = f"{100 * sum(r['new'] for r in rows) / sum(r['tokens'] for r in rows):.1f} %"
        cells.append((arm, _f(bits[arm].mean().item(), 3), *(_f(b, 3) for b in bits[arm].tolist()), new))
    made = next(r for r in document["rows"] if "made" in r)
    title = f"{made['copied']:,} rows copied, {made['made']:,} made; {len(arms[0][1])} passages"
    return [Table(title, ("arm", "bits per byte", *names, "new tokens"), cells)]


def _ss_token(document: Document) -> list[Table]:
    heads = ("arm", "loss after", "change from before", "rejected were wrong", "wrong were rejected")
    cells = []
    for arm, rows in _by(document["rows"], "arm"):
        precise = [r["precision"] for r in rows if r["precision"] is not None]
        cells.append(
            (
                arm, _f(mean(r["after"] for r in rows), 3), f"{mean(r['after'] - r['before'] for r in rows):+.3f}",
                f"{100 * mean(precise):.1f} %" if precise else "", f"{100 * mean(r['recall'] for r in rows):.1f} %",
            )
        )  # fmt: skip
    return [Table(f"mean of {len(document['settings']['seeds'])} seeds, losses in nats", heads, cells)]


def _needle_threading(document: Document) -> list[Table]:
    lengths = sorted({r["characters"] for r in document["rows"]})
    scores = [name for name in document["rows"][0] if name.startswith("hop ")]
    cells = []
    for arm, rows in _by(document["rows"], "arm"):
        by_length = [mean(r["right"] for r in rows if r["characters"] == n) for n in lengths]
        found = [mean(r[name] for r in rows) for name in ("right", *scores)]
        nats = mean(r["logprob"] for r in rows)
        cells.append((arm, *(f"{100 * v:.0f} %" for v in (*found, *by_length)), _f(nats, 2)))
    heads = ("arm", "values found", *scores, *(f"{n:,} characters" for n in lengths), "log-probability")
    threads = len(_by(document["rows"], "id"))
    return [Table(f"{threads} threads, values found among ten, log-probability in nats", heads, cells)]


def _tokenizer_information(document: Document) -> list[Table]:
    heads = (
        "tokenizer", "entries", "used", "bytes/token", "H1/log K", "Rényi", "H1", "H2", "H1, bits/byte",
        "H2, bits/byte", "gzip of ids", "lzma of ids", "whole",
    )  # fmt: skip
    found = []
    for corpus, rows in _by([r for r in document["rows"] if r["part"] == "real"], "corpus"):
        cells = []
        for r in rows:
            v = r["values"]
            digits = (
                ("bytes_per_token", 2), ("capacity_use", 3), ("renyi_use", 3), ("h1", 2), ("h2", 2),
                ("h1_bits_per_byte", 2), ("h2_bits_per_byte", 2), ("gzip_ids_bits_per_byte", 2),
                ("lzma_ids_bits_per_byte", 2),
            )  # fmt: skip
            cells.append(
                (
                    r["tokenizer"], _f(v["vocabulary"], 0), f"{100 * v['vocabulary_used']:.0f} %",
                    *(_f(v[name], d) for name, d in digits), f"{100 * v['whole_documents']:.0f} %",
                )
            )  # fmt: skip
        raw = rows[0]["values"]
        found.append(
            Table(
                f"{corpus}: {raw['bytes'] / 1e6:.2f} MB, {rows[0]['samples']} documents; of the bytes gzip leaves "
                f"{raw['gzip_bits_per_byte']:.2f} and lzma {raw['lzma_bits_per_byte']:.2f} bits a byte",
                heads, cells,
            )
        )  # fmt: skip
    names = ("bytes_per_token", "h1", "h2", "h3", "h4", "h5", "h5_shuffled", "capacity_use", "gzip_ids_bits_per_byte")
    grid = [
        (r["tokenizer"], f"{r['trained_on']:,}", _f(r["values"]["vocabulary"], 0),
         *(_f(r["values"][n], 2) for n in names))
        for r in document["rows"]
        if r["part"] == "grid"
    ]  # fmt: skip
    heads = ("tokenizer", "trained on, characters", "entries", "bytes/token", "H1", "H2", "H3", "H4", "H5",
             "H5 shuffled", "H1/log K", "gzip of ids")  # fmt: skip
    return [*found, Table("code that was not trained on, by the amount of code that was", heads, grid)]


def _soft_thinking(document: Document) -> list[Table]:
    arms = [(arm, rows) for arm, rows in _by(document["rows"], "arm") if arm != "probe"]
    greedy = [r["ids"] for r in arms[0][1]]
    cells = [
        (
            arm, f"{sum(r['right'] for r in rows)} of {len(rows)}", _f(mean(r["entropy"] for r in rows), 2),
            f"{100 * mean(r['repeated'] for r in rows):.0f} %", _f(mean(r["tokens"] for r in rows), 1),
            _f(mean(_shared(r["ids"], ids) for r, ids in zip(rows, greedy, strict=True)), 1),
        )
        for arm, rows in arms
    ]  # fmt: skip
    heads = ("arm", "right", "entropy while thinking, nats", "repeated", "tokens", "first tokens as greedy's")
    places = [p for r in document["rows"] if r["arm"] == "probe" for p in r["places"]]
    first, second, third = (mean(p["to_each"][i] for p in places) for i in range(3))
    ways = [
        ("its largest token", _f(first, 3)), ("its second token", _f(second, 3)), ("its third token", _f(third, 3)),
        ("the weighted mean of the three", _f(mean(p["to_mixture"] for p in places), 3)),
        ("its largest token, with random others in the mixture", _f(mean(p["random_to_first"] for p in places), 3)),
    ]  # fmt: skip
    weights = ", ".join(f"{mean(p['weights'][i] for p in places):.2f}" for i in range(3))
    title = f"distance of what follows a mixture of three (mean weights {weights}; {len(places)} places)"
    return [
        Table(f"{len(greedy)} word problems", heads, cells),
        Table(title, ("from what follows", "Jensen-Shannon, nats"), ways),
    ]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens that two texts begin with together."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _active_dormant(document: Document) -> list[Table]:
    toys, seen, silent = ([r for r in document["rows"] if r["part"] == p] for p in ("toy", "smollm2", "silence"))

    def each(values: Sequence[float]) -> str:
        return ", ".join(f"{v:.2f}" for v in values)

    return [
        Table(
            "toys: one number for each layer",
            ("toy", "steps", "sink, dormant", "sink, active", "value ratio", "residual peak", "loss, dormant",
             "loss, active"),
            [
                (r["arm"], f"{r['steps']:,}", each(r["sink_dormant"]), each(r["sink_active"]), each(r["value_ratio"]),
                 each(r["residual_peak"]), _f(r["loss_dormant"], 3), _f(r["loss_active"], 3))
                for r in toys
            ]
            + [
                (f"{r['arm']}, explicit circuit", "", "", "", "", "", _f(r["circuit_dormant"], 3),
                 _f(r["circuit_active"], 3))
                for r in toys if r["steps"] and "circuit_active" in r
            ]
            + [("the source itself", "", "", "", "", "", _f(toys[0]["least_dormant"], 3),
                _f(abs(toys[0]["least_active"]), 3))],
        ),
        Table(
            "SmolLM2",
            ("first token", "heads asleep on prose", "on code", "heads that switch", "between halves of prose",
             "of code", "median value ratio", "largest residual peak", "loss on prose", "on code"),
            [
                (r["arm"], *(str(n) for n in r["asleep"]), str(r["switching"]), *(str(n) for n in r["by_chance"]),
                 _f(r["median_value_ratio"], 2), f"{r['largest_peak']:.0f} behind layer {r['peak_layer']}",
                 *(_f(v, 3) for v in r["loss"]))
                for r in seen
            ],
        ),
        Table(
            "SmolLM2 without one head: change of the loss in nats",
            ("head", "chosen because it", "sink on prose", "on code", "loss on prose", "on code"),
            [
                (r["head"], r["arm"], _f(r["sink_prose"], 2), _f(r["sink_code"], 2), f"{r['prose']:+.4f}",
                 f"{r['code']:+.4f}")
                for r in silent
            ],
            words=2,
        ),
    ]  # fmt: skip


def _peer_tokenizers(document: Document) -> list[Table]:
    heads = (
        "library", "wrong documents", "wrong hostile texts", "load s", "first MB/s", "then MB/s", "times tokenizers",
        "peak MB", "slowest run ms", "growth",
    )  # fmt: skip
    found = []
    for name, rows in _by(document["rows"], "vocabulary"):
        cells = [
            (
                r["arm"], f"{r['wrong']} of {r['documents']}", f"{r['hostile_wrong']} of {r['hostile']}",
                _f(r["load_s"], 2), _f(r["cold_mb_s"], 1), _f(r["warm_mb_s"], 1), _x(r["times_tokenizers"]),
                str(r["peak_mb"]), _f(r["slowest_run_ms"], 0), _f(r["growth"], 1),
            )
            if r["takes_it"]
            else (r["arm"], "refuses the vocabulary", *[""] * 8)
            for r in rows
        ]  # fmt: skip
        found.append(Table(f"{name}, {rows[0]['bytes'] / 1e6:.1f} MB of text", heads, cells))
    return found


def _soft_prompts(document: Document) -> list[Table]:
    looks = [str(step) for step in document["settings"]["looks"]]
    cells = []
    for arm, rows in _by(document["rows"], "arm"):
        learned = f"{rows[0]['parameters']:,}" if "parameters" in rows[0] else ""
        at = [[r["looks"][step] for r in rows if step in r["looks"]] for step in looks]
        cells.append(
            (
                arm, learned, *(_f(mean(v["loss"] for v in found), 2) if found else "" for found in at),
                f"{100 * mean(r['looks'][max(r['looks'], key=int)]['right'] for r in rows):.0f} %",
                " ".join(f"{r['looks'][looks[-1]]['loss']:.2f}" for r in rows if looks[-1] in r["looks"]),
            )
        )  # fmt: skip
    heads = ("arm", "learned", *(f"loss at {step}" for step in looks), "right at the end", "each seed at the end")
    ask = document["settings"]["ask"]
    return [Table(f"{ask} countries that were not learned from, by steps; mean of seeds", heads, cells)]


def _peer_peft(document: Document) -> list[Table]:
    learn = [r for r in document["rows"] if r["task"] == "learn"]
    serve = [r for r in document["rows"] if r["task"] == "serve"]
    goal = document["settings"]["goal"]
    learned = [
        (
            f"{r['arm']}, {r['kind']}", f"{r['learned']:,}", _f(r["losses"][0], 3), _f(r["losses"][-1], 3),
            str("never" if r["steps_to_goal"] is None else r["steps_to_goal"]), _f(min(r["seconds"]), 2),
            _f((r["peak_bytes"] - r["loaded_bytes"]) / MIB, 0),
        )
        for r in learn
    ]  # fmt: skip
    served = [
        (
            f"{r['arm']}, {r['kind']}", _f(median(r["seconds"]), 2), f"{r['same_rows']} of 8",
            "" if r["arm"] == "untuned" else f"{r['apart']:.5f}",
        )
        for r in serve
    ]  # fmt: skip
    steps = document["settings"]["steps"]
    return [
        Table(
            f"{steps} steps of learning",
            ("arm", "learned", "first loss", "last loss", f"steps to {goal:g}", "best step s", "MiB above the model"),
            learned,
        ),
        Table("eight rows with two prompts", ("arm", "seconds", "rows as alone", "logits apart from alone"), served),
    ]


def _stochastok(document: Document) -> list[Table]:
    learned = []
    tests = document["settings"]["tests"]
    for r in document["rows"]:
        if r["part"] == "letters":
            held = sum(r["held_out"].values())
            share = f"{100 * held / tests:.1f} % ({_range(intervals.of_share(held, tests), 1, 100)})"
            asks = (f"{100 * r['held_out'][ask] / count:.1f} %" for ask, count in r["asked"].items())
            learned.append(
                (
                    r["arm"], share, *asks, f"{100 * sum(r['training'].values()) / tests:.1f} %",
                    f"{r['tokens_read'] / 1e6:.2f}", _f(r["read_loss"], 2), _f(r["seconds"], 0),
                )
            )  # fmt: skip
    heads = (
        "arm", "held-out words (95 %)", "starts", "ends", "contains", "training words", "million tokens read",
        "loss of reading", "seconds",
    )  # fmt: skip
    fast = [
        (r["arm"], f"{r['share']:g}", f"{r['bytes'] / 1e6:.2f}", _f(r["mb_per_second"], 2), _f(r["growth"], 3))
        for r in document["rows"]
        if r["part"] == "speed"
    ]
    return [
        Table(f"right answers to {tests:,} questions, chance is 25 %", heads, learned),
        Table("splitting on one core", ("arm", "share", "MB of text", "MB/s", "tokens grow by"), fast),
    ]


def _quantize_images(document: Document) -> list[Table]:
    cells = []
    for r in sorted(document["rows"], key=lambda r: document["settings"]["arms"].index(r["arm"])):
        counted = [""] * 5
        if "codes" in r:
            counted = [
                f"{r['bits']:g}", f"{r['coded_bits']:g}", _span(r["usage"], 3), _span(r["perplexity"], 1),
                _percent(r["stays"]),
            ]  # fmt: skip
        seeds = f" ({_span(r['psnr_of_seeds'], 2)})" if "psnr_of_seeds" in r else ""
        cells.append((r["arm"], _f(r["psnr"], 2) + seeds, *counted, _f(r["seconds"], 0)))
    heads = (
        "middle", "PSNR held out, dB", "bits/token", "entropy-coded", "usage", "perplexity", "stays", "seconds",
    )  # fmt: skip
    tokens = next(r["tokens"] for r in document["rows"] if "tokens" in r)
    return [Table(f"{document['settings']['steps']} steps; codes of {tokens:,} training tokens", heads, cells)]


def _quantize_speech(document: Document) -> list[Table]:
    cells = [
        (
            r["arm"], _f(r["bits"], 0), _f(r["coded_bits"], 1), _f(r["mse"], 3), _f(r["sqnr_db"], 2),
            _span(r["usage"], 3), _span(r["perplexity"], 0), _percent(r["stays"]), _f(r["fit_s"], 1),
            _f(r["encode_s"], 2),
        )
        for r in document["rows"]
    ]  # fmt: skip
    heads = (
        "quantizer", "bits/frame", "entropy-coded", "MSE", "SQNR, dB", "usage", "perplexity", "stays", "fit s",
        "encode s",
    )  # fmt: skip
    frames = document["rows"][0]["frames"]
    title = f"{frames:,} frames of held-out files; codebooks of 256 codes where no number is said"
    return [Table(title, heads, cells)]


def _peer_quantizers(document: Document) -> list[Table]:
    found = []
    for size in document["settings"]["sizes"]:
        for width in document["settings"]["widths"]:
            rows = [r for r in document["rows"] if (r.get("codes"), r.get("width")) == (size, width)]
            cells = [
                (
                    r["arm"], _f(r["seconds"], 2), _x(r["seconds"] / rows[0]["seconds"]), _f(r["extra_mib"], 0),
                    str(r["slice"] or ""), f"{r['timed_on']:,}", str(r["other"]), str(r["wrong"]),
                )
                for r in rows
            ]  # fmt: skip
            heads = (
                "arm", "seconds", "of plain products", "MiB extra", "slices of", "timed on", "other codes", "farther",
            )  # fmt: skip
            if cells:
                title = f"{document['settings']['vectors']:,} vectors of width {width}, {size:,} codes"
                found.append(Table(title, heads, cells))
    learned = [
        (r["arm"], _f(r["psnr"], 2), _f(r["usage"], 3), _f(r["perplexity"], 1), _f(r["seconds"], 0))
        for r in document["rows"]
        if r["part"] == "learn"
    ]
    heads = ("arm", "PSNR held out, dB", "usage", "perplexity", "seconds")
    return [*found, Table(f"{document['settings']['codes']} codes in the autoencoder of photographs", heads, learned)]


def _patches(document: Document) -> list[Table]:
    parts: dict[str, list[Row]] = {}
    for r in document["rows"]:
        parts.setdefault(r["part"], []).append(r)
    digits = [
        (r["arm"], str(r["width"]), _percent(r["accuracy"]), _percent(r["lowest"]), _percent(r["highest"]),
         _f(r["seconds"], 1))
        for r in parts["digits"]
    ]  # fmt: skip
    photographs = [
        (
            r["tried"], r["arm"], str(r["codes"]), _f(r["psnr"], 2), _percent(r.get("stays")), f"{r['tokens']:,}",
            f"{r['bits']:,.0f}", f"{r['coded_bits']:,.0f}", _percent(r["usage"]),
            _f(r["fit_s"], 1) if "fit_s" in r else "", _f(r["encode_s"], 1) if "encode_s" in r else "",
        )
        for r in parts["photographs"]
    ]  # fmt: skip
    anchors = [
        (r["arm"], "yes" if r["exact"] else "no", f"{r['tokens']:,}", f"{r['bits']:,}", _f(r["encode_s"], 2))
        for r in parts["anchors"]
    ]
    heads = (
        "tried on", "arm", "codes", "PSNR, dB", "stays", "tokens", "bits", "entropy-coded", "usage", "fit s",
        "encode s",
    )  # fmt: skip
    return [
        Table("Digits, patches of 4 x 4", ("arm", "width", "right", "lowest", "highest", "seconds"), digits),
        Table("Photographs, patches of 14 x 14", heads, photographs, words=2),
        Table("What loses nothing, patches of 16 x 16", ("content", "exact", "tokens", "bits", "encode s"), anchors),
    ]


def _collages(document: Document) -> list[Table]:
    rows = [
        (
            r["arm"], str(r["kept"]), _percent(r["share"]), _percent(r["accuracy"]), f"± {100 * r['error']:.1f}",
            _percent(r["another_place"]), _f(1000 * r["seconds"], 0),
        )
        for r in document["rows"]
    ]  # fmt: skip
    asked, tokens = document["rows"][0]["questions"], document["settings"]["tokens"]
    heads = ("arm", "tokens of the picture", "share", "right", "95 %", "said of another place", "ms a question")
    return [Table(f"{asked} questions about collages of {tokens} tokens", heads, rows)]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _span(values: Sequence[float], digits: int) -> str:
    """One value, or the smallest and the largest of several."""
    ends = dict.fromkeys(f"{value:.{digits}f}" for value in (min(values), max(values)))
    return " to ".join(ends)


def _audio_frames(document: Document) -> list[Table]:
    parts: dict[str, list[Row]] = {}
    for r in document["rows"]:
        parts.setdefault(r["part"], []).append(r)
    spectrum = [
        (r["arm"], "" if r["bits_s"] is None else f"{r['bits_s']:,.0f}", _f(r["said_db"], 2), _f(r["heard_db"], 2))
        for r in parts["spectrum"]
    ]
    numbers = [(r["arm"], f"{r['right']} of {r['asked']}") for r in parts["numbers"]]
    words = [(r["arm"], f"{r['wrong']} of {r['words']}", _percent(r["wrong"] / r["words"])) for r in parts["words"]]
    frames = parts["spectrum"][0]["frames"]
    waves = [
        (r["arm"], f"{r['bits_s']:,.0f}", _f(r["si_snr_db"], 1), _f(r["log_mel"], 2), _f(r["stft"], 2), str(r["delay"]))
        for r in parts["wave"]
    ]
    return [
        Table(
            f"SQNR of {frames:,} log-mel frames of held-out clips", ("content", "bits/s", "codes, dB", "sound, dB"),
            spectrum,
        ),
        Table(
            f"The wave of {parts['wave'][0]['clips']} held-out clips",
            ("content", "bits/s", "SI-SNR, dB", "log-mel", "spectra", "delay"), waves,
        ),
        Table("Ordinal numbers known by their cardinals", ("units", "right"), numbers),
        Table("Words that Whisper hears otherwise than in the original", ("sound", "words", "share"), words),
    ]  # fmt: skip


def _unified_digits(document: Document) -> list[Table]:
    rows = document["rows"]
    names = {"image": "picture", "text": "word", "audio": "sound"}
    ways: dict[tuple[str, ...], list[str]] = {}
    arms = list(dict.fromkeys((r["arm"], r["steps"]) for r in rows if "voices" in r))
    last = arms[1:2] and max(arms, key=lambda arm: arm[1])
    for voices in ("known", "new"):
        for r in rows:
            if r.get("voices") == voices:
                cells = ways.setdefault((voices, r["from"], r["to"]), [""] * len(arms))
                cells[arms.index((r["arm"], r["steps"]))] = f"{r['right']} of {r['asked']}"
    right = [
        (f"{names[a]} to {names[b]}" + (", new voice" if voices == "new" else ""), *cells)
        for (voices, a, b), cells in ways.items()
    ]
    said = [
        (
            f"{names[r['from']]} to {names[r['to']]}",
            *(str(r[k]) for k in ("asked", "right_by_real", "distinct", "copies")),
        )
        for r in rows
        if r.get("voices") == "known" and (r["arm"], r["steps"]) == last and r["to"] != "text"
    ]
    texts = [
        (f"{r['arm']}, {r['steps']} steps", _f(r["perplexity"], 3), _f(r["perplexity_with_new"], 3))
        for r in rows
        if r.get("part") == "text"
    ]
    judges = [
        (("" if r["part"] == "judges" else "counts of codes alone: ") + name, _percent(v))
        for r in rows
        if r.get("part") in ("judges", "counts")
        for name, v in r.items()
        if name != "part"
    ]
    heads = ("from and to", *(f"{arm}, {steps} steps" for arm, steps in arms))
    return [
        Table("Digits that come out as they went in", heads, right),
        Table(
            "What was drawn and spoken",
            ("from and to", "asked", "right for the `real` judge", "distinct", "the same as a known one"),
            said,
        ),
        Table("Held-out signals that the judges know, or counts of codes", ("signals", "right"), judges),
        Table("Perplexity of plain text", ("model", "new ids masked", "all ids"), texts),
    ]


VIEWS: Mapping[str, Callable[[Document], list[Table]]] = {
    "audio_frames": _audio_frames,
    "collages": _collages,
    "token_adapt": _token_adapt,
    "token_adapt_real": _token_adapt,
    "decode_layer": _decode_layer,
    "decode_model": _decode_model,
    "fidelity": _fidelity,
    "answers": _answers,
    "first_token": _first_token,
    "passkey": _passkey,
    "stochastok": _stochastok,
    "soft_thinking": _soft_thinking,
    "peer_llmlingua": _peer_llmlingua,
    "soft_prompts": _soft_prompts,
    "peer_peft": _peer_peft,
    "peer_tokenizers": _peer_tokenizers,
    "needle_threading": _needle_threading,
    "tokenizer_information": _tokenizer_information,
    "ss_token": _ss_token,
    "active_dormant": _active_dormant,
    "patches": _patches,
    "quantize_images": _quantize_images,
    "quantize_speech": _quantize_speech,
    "peer_quantizers": _peer_quantizers,
    "unified_digits": _unified_digits,
}


def _by(rows: Iterable[Row], key: str) -> list[tuple[str, list[Row]]]:
    """Rows grouped by one of their fields, in the order of first appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return list(found.items())


def _f(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _x(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def _range(ends: tuple[float, float], digits: int, factor: float = 1.0) -> str:
    return " to ".join(f"{factor * end:.{digits}f}" for end in ends)
