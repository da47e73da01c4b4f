"""The FHIR R4 REST API: its interactions, HTTP, and the CapabilityStatement. HTTP alone: ``store`` reads and writes."""
