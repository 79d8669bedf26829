"""Heads that predict tokens further on, for training only."""
