"""Training across hospitals without moving patients, on Flower (the extra ``federated``)."""
