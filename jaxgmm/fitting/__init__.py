"""Fitting layer: loops over the verbs of the model layer, and what they return."""
