"""Bulk data: exports as NDJSON files (HL7 Bulk Data Access IG 2.0), and files of resources that are sent."""
