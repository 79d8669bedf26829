"""Text in which some tokens were replaced: which, by what, and who can tell."""
