"""HL7 version 2 in and out: framing and MLLP, a lazy message reader, acknowledgements, and the way to and from FHIR.

The standard is HL7 v2.5.1 (chapters 2, 3 and 7; older and newer messages are read by the same positions), framed by
MLLP Release 1. The mapping to FHIR R4 follows the tables of the HL7 v2-to-FHIR implementation guide.
"""
