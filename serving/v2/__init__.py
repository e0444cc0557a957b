"""Generated from proto/serving/v2 by `make proto`; never edited."""
