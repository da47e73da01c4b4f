"""HL7 v2 segments to FHIR resources, one file each; mapped by the guide's segment maps."""
