"""Makes the skeleton of a model folder from the file that a library wrote.

- :mod:`~inference.scaffold.inspect`: what the file says of its inputs and outputs (:mod:`~inference.scaffold.found`)
- :mod:`~inference.scaffold.checkpoint`: the tensors of a PyTorch checkpoint
- :mod:`~inference.scaffold.bundle`: the network of a MONAI bundle
- :mod:`~inference.scaffold.write`: the folder, with ``FILL-IN`` where only a person knows
- :mod:`~inference.scaffold.cases`: golden cases from the plausible ranges of the features
"""
