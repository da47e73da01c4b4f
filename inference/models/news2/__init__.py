"""The National Early Warning Score 2 of the Royal College of Physicians; see ``card.md``."""
