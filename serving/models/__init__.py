"""Models and their versions: on disk, loading, answering, unloading."""
