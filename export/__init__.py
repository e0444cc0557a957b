"""Exports a run as a versioned, verified SavedModel."""
