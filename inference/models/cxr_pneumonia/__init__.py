"""A demonstration network that finds pneumonia on a chest radiograph; see ``card.md``."""
