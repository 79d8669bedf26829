"""The report: one HTML page, complete in itself, that shows what happened to every token of a run."""
