"""Generated from proto/voc_cls/v1 by `make proto`; never edited."""
