"""Families: what the components of a mixture are. Nothing outside a family knows what it is made of."""
