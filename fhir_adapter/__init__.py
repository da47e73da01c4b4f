"""FHIR R4 and HL7 v2: the store and its REST API, results as resources, the client of the hospital's EHR."""
