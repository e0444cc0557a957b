"""The version, in a module of its own so that every part can import it without the public API above it."""

__version__ = "0.4.0"
