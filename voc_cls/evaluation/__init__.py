"""Metrics of a model's logits on a labelled split, and the reports, tables and sheets that show them."""
