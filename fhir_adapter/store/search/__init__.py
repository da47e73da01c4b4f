"""Search: the table of parameters, the index rows of a resource, and queries (R4, search.html)."""
