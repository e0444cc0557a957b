"""Readers: one module for each kind of data set on disk; each gives a `SplitScan`."""
