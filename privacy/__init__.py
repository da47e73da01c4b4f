"""Principals, authorization, keys, pseudonyms and the audit log."""
