"""A validator compiled from HL7's StructureDefinitions of R4 4.0.1, and from profiles of them (ADR 0036)."""
