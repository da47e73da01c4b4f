"""Features: declared in ``features.yaml``, compiled to plain closures over the facts of one patient."""
