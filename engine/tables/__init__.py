"""Tables of results: methods x seeds, planned from a file, gathered from runs, compared, written. Needs no torch."""
