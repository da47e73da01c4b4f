"""JSON Schemas of ``model.yaml`` and ``features.yaml``, for editors and for checks before a model is added."""
