# mypy: disable-error-code="no-untyped-def"
"""The loops of `pairs`, compiled. A pair of ids is one key: the left one in the upper 32 bits."""

from __future__ import annotations

import numpy as np
from numba import njit

FIRST, LAST, PLACES, TOUCHED = 0, 1, 2, 3
USED, HEAP, MERGES = 0, 1, 2


@njit(cache=True)
def find(keys, key):
    """Where a key stands, or where it would stand."""
    mask = len(keys) - 1
    at = (key * -7046029254386353131) >> 20 & mask
    while keys[at] != key and keys[at] != -1:
        at = (at + 1) & mask
    return at


@njit(cache=True)
def rehash(old, new):
    """Move the pairs that still occur; how many there are."""
    moved = 0
    for at in range(len(old[0])):
        if old[0][at] != -1 and old[1][at] > 0:
            to = find(new[0], old[0][at])
            new[0][to] = old[0][at]
            new[1][to] = old[1][at]
            new[2][:, to] = old[2][:, at]
            moved += 1
    return moved


@njit(cache=True)
def places(table, key):
    """How many places a pair has."""
    at = find(table[0], key)
    return max(0, table[2][PLACES, at]) if table[0][at] == key else 0


@njit(cache=True)
def push(heap, numbers, count, key):
    at = numbers[HEAP]
    numbers[HEAP] += 1
    while at > 0:
        up = (at - 1) >> 1
        if heap[0, up] > count or (heap[0, up] == count and heap[1, up] <= key):
            break
        heap[0, at], heap[1, at] = heap[0, up], heap[1, up]
        at = up
    heap[0, at], heap[1, at] = count, key


@njit(cache=True)
def sink(heap, numbers, count, key):
    """Put an entry in the place of the first one."""
    size, at = numbers[HEAP], 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        other = down + 1
        if other < size and (
            heap[0, other] > heap[0, down] or (heap[0, other] == heap[0, down] and heap[1, other] < heap[1, down])
        ):
            down = other
        if count > heap[0, down] or (count == heap[0, down] and key <= heap[1, down]):
            break
        heap[0, at], heap[1, at] = heap[0, down], heap[1, down]
        at = down
    heap[0, at], heap[1, at] = count, key


@njit(cache=True)
def drop(heap, numbers):
    numbers[HEAP] -= 1
    last = numbers[HEAP]
    if last > 0:
        sink(heap, numbers, heap[0, last], heap[1, last])


@njit(cache=True)
def best(table, heap, numbers, sizes, longest, fewest, found):
    """The first pairs of the heap. Counts only fall without a new entry, so an old entry never stands too low."""
    have = 0
    while numbers[HEAP] > 0 and have < len(found):
        count, key = heap[0, 0], heap[1, 0]
        at = find(table[0], key)
        now = table[1][at] if table[0][at] == key else 0
        if now <= 0:
            drop(heap, numbers)
        elif now != count:
            sink(heap, numbers, now, key)
        elif now < fewest:
            break
        else:
            left, right = key >> 32, key & 0xFFFFFFFF
            drop(heap, numbers)
            if longest and sizes[0, left] + sizes[0, right] - sizes[1, right] > longest:
                continue
            if have == 0 or found[have - 1, 0] != key:
                found[have, 0], found[have, 1] = key, count
                have += 1
    for i in range(have):
        push(heap, numbers, found[i, 1], found[i, 0])
    return have


@njit(cache=True)
def link(at, key, count, table, numbers, after, before):
    """Enter a place at the end of the list of its pair; the pair's slot."""
    slot = find(table[0], key)
    if table[0][slot] == -1:
        table[0][slot] = key
        numbers[USED] += 1
        table[2][PLACES, slot] = 0
    last = table[2][LAST, slot]
    if last == -1:
        table[2][FIRST, slot] = at
    else:
        after[last] = at
    before[at], after[at] = last, -1
    table[2][LAST, slot] = at
    table[2][PLACES, slot] += 1
    table[1][slot] += count
    return slot


@njit(cache=True)
def unlink(at, key, count, table, after, before):
    slot = find(table[0], key)
    if before[at] == -1:
        table[2][FIRST, slot] = after[at]
    else:
        after[before[at]] = after[at]
    if after[at] == -1:
        table[2][LAST, slot] = before[at]
    else:
        before[after[at]] = before[at]
    table[2][PLACES, slot] -= 1
    table[1][slot] -= count


@njit(cache=True)
def count(ids, word, counts, following, previous, after, before, table, heap, numbers):
    """Enter all places, from where the last call had no room left; where this one has none, or -1."""
    room = len(table[0]) * 7 // 10
    for at in range(numbers[MERGES], len(ids)):
        if numbers[USED] >= room:
            numbers[MERGES] = at
            return at
        if following[at] != -1:
            key = np.int64(ids[at]) << 32 | ids[following[at]]
            link(at, key, counts[word[at]], table, numbers, after, before)
    numbers[MERGES] = 0
    for slot in range(len(table[0])):
        if table[0][slot] != -1:
            push(heap, numbers, table[1][slot], table[0][slot])
    return -1


@njit(cache=True)
def merge(ids, word, counts, following, previous, after, before, table, heap, numbers, left, right, made):
    """Let a pair become one id; pairs that occur more often now get a new entry in the heap."""
    numbers[MERGES] += 1
    turn = numbers[MERGES]
    pair = np.int64(left) << 32 | right
    slot = find(table[0], pair)
    if table[0][slot] != pair:
        return
    fresh = np.empty(2 * max(0, table[2][PLACES, slot]), np.int64)
    new = 0
    while table[2][FIRST, slot] != -1:
        at = table[2][FIRST, slot]
        if left == right:
            while previous[at] != -1 and ids[previous[at]] == left:
                at = previous[at]
        gone, often = following[at], counts[word[at]]
        back, ahead = previous[at], following[gone]
        if back != -1:
            unlink(back, np.int64(ids[back]) << 32 | left, often, table, after, before)
        if ahead != -1:
            unlink(gone, np.int64(right) << 32 | ids[ahead], often, table, after, before)
        unlink(at, pair, often, table, after, before)
        ids[at], ids[gone], following[at] = made, -1, ahead
        if ahead != -1:
            previous[ahead] = at
        for place, key in ((back, np.int64(ids[back]) << 32 | made), (at, np.int64(made) << 32 | ids[ahead])):
            if place != -1 and following[place] != -1:
                touched = link(place, key, often, table, numbers, after, before)
                if table[2][TOUCHED, touched] != turn:
                    table[2][TOUCHED, touched] = turn
                    fresh[new] = key
                    new += 1
    for i in range(new):
        often = table[1][find(table[0], fresh[i])]
        if often > 0:
            push(heap, numbers, often, fresh[i])
