"""Keys, pseudonyms and the audit log: what keeps patients' data where they are and proves what was done with them."""
