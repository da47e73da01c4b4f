"""Limits of the DICOM listener on what a peer may send."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class DicomLimits:
    """Bounds on size, number and time. Every wait of the listener ends by one of them."""

    #: Maximum Length that is sent to the peer: bytes of a P-DATA-TF PDU (PS3.8 Annex D.1).
    maximum_length: int = 256 * 1024
    #: Longest PDU of any kind that is read at all; a longer one is refused before a byte of it is buffered.
    pdu_bytes: int = MEBIBYTE
    #: Largest command set and dataset together.
    instance_bytes: int = 512 * MEBIBYTE
    #: Associations that are served at once; one more is rejected (transient, local limit exceeded).
    associations: int = 64
    #: Connections, with or without an association; one more is closed at once.
    connections: int = 1024
    #: ARTIM: from connection to A-ASSOCIATE-RQ, TLS included, and from the last PDU sent until the peer disconnects.
    artim_s: float = 10.0
    #: From the first byte of a PDU to its last.
    pdu_s: float = 30.0
    #: Between two PDUs of an association.
    idle_s: float = 60.0
    #: For the peer to take an answer.
    send_s: float = 30.0
