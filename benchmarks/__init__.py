"""What is claimed of speed and of safety, measured: each module runs alone, ``python -m benchmarks`` runs them all."""
