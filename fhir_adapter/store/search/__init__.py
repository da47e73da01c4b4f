"""Search: which parameters there are, what a resource is indexed by, and how a query finds it (R4, search.html)."""
