"""HL7 version 2: framing and MLLP, a lazy message parser, acknowledgements, and the conversion to and from FHIR.

The standard is HL7 v2.5.1 (chapters 2, 3 and 7; older and newer messages are read by the same field positions), framed
by MLLP Release 1. The mapping to FHIR R4 follows the tables of the HL7 v2-to-FHIR implementation guide.
"""
