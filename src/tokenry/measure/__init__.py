"""Numbers and how sure they are."""
