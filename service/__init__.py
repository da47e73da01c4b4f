"""Composition: settings, wiring, flows, delivery, console and commands. Imports everything; nothing imports it."""
