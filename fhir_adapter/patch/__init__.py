"""Changes parts of a resource: JSON Patch (RFC 6902) and FHIRPath Patch (FHIR R4, fhirpatch.html), on exact JSON."""
