"""Clients of the hospital's own systems."""
