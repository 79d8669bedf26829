"""Words of a corpus counted on Ray, for vocabularies that are learnt from counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenry.pipeline.cluster import on_cluster
from tokenry.segment.training.corpus import texts
from tokenry.segment.training.progress import Progress
from tokenry.segment.training.words import Count, Words

AHEAD = 2
"""Texts that wait for each worker."""
RETRIES = 2


def counting_on_ray(address: str, workers: int) -> Count:
    """What counts words on a cluster; the corpus is read here, a piece at a time, exactly as one process reads it."""

    def count(words: Callable[[str], Words], corpus: Iterable[str | Path], progress: Progress) -> Words:
        # What is wrong with the method is said before anything is started.
        words("")
        for said in on_cluster(_counted, (words, list(corpus), workers), address, workers):
            if isinstance(said, Words):
                return said
            progress(*said)
        raise AssertionError("the words are the last thing that is said")

    return count


def _counted(ray: Any, words: Callable[[str], Words], corpus: list[str | Path], workers: int) -> Iterator[Any]:
    """How far it is, again and again, and all words at last."""
    # Ray takes functions alone; what counts may be a method, or a function with some of its arguments.
    count, held = ray.remote(num_cpus=1, max_retries=RETRIES)(_words_of), ray.put(words)
    told: list[tuple[str, int, int]] = []
    found, waiting = Words(), list[Any]()

    def take(most: int) -> None:
        while len(waiting) > most:
            [done], waiting[:] = ray.wait(waiting, num_returns=1)
            found.add(ray.get(done))

    for text in texts(corpus, lambda *said: told.append(said)):
        waiting.append(count.remote(held, text))
        take(AHEAD * workers)
        yield from told[-1:]
        told.clear()
    take(0)
    yield found


def _words_of(words: Callable[[str], Words], text: str) -> Words:
    return words(text)
