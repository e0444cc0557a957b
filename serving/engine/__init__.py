"""What computes: a version's network in a process of its own, its decoder, and the batches that they are given."""
