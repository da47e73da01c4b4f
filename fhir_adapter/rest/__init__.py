"""The FHIR R4 REST API: what may be asked, how it is asked over HTTP, and what we say of it."""
