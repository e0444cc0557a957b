"""Computation: dynamic batching, and the network of each version in a separate process."""
