"""Models: their contract, their folders, the registry of them and the one listener to run them."""
