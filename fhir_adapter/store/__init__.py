"""Resources as documents: parsed without loss, validated against R4, stored with their history, indexed for search."""
