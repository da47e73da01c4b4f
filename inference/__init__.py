"""Models: their contract, their folders, the registry of them and the one door to run them."""
