"""Benchmarks of speed and durability: each module runs by itself, ``python -m benchmarks`` runs them all."""
