"""The face that speaks FHIR R4 and HL7 v2: the store and its REST API, results as resources, the hospital's own EHR."""
