"""Benchmarks of jaxgmm beside its peers. `make bench`."""
