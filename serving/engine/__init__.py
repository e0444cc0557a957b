"""Computation: dynamic batching, and a version's network in a process of its own."""
