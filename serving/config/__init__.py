"""The configuration of a server: fields, command line, models, and --check."""
