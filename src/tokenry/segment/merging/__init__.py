"""Tokens that are longer than those of a vocabulary: merging, their rows, reading and writing with them."""
