"""HL7 v2 data types to FHIR data types, one file each; chapter 2A, mapped by the guide's data type maps."""
