"""voc-export: a run folder becomes a versioned, verified SavedModel."""
