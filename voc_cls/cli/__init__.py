"""The commands voc-train, voc-eval, voc-data, voc-weights and voc-predict: argument handling only."""
