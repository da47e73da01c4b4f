"""Durable storage (database, jobs, outbox, blobs), and the basic types that every package uses."""
