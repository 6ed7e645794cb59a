"""Benchmarks against a named peer and a floor, in one run on one machine; answers are compared while measured."""
