"""The configuration of a server, and its models."""
