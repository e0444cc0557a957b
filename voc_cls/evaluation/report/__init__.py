"""What a model is worth on one split, as an object: numbers, tables for a notebook, and report.html."""
