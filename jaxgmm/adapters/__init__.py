"""Adapters layer: mixtures as other libraries want to see them. What a library needs is imported inside functions."""
