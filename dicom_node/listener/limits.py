"""Limits of the DICOM listener on what a peer may send."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class DicomLimits:
    """Bounds on size, number and time. Each of them ends one kind of wait of the listener."""

    #: Maximum Length that is sent to the peer: bytes of a P-DATA-TF PDU (PS3.8 Annex D.1).
    maximum_length: int = 256 * 1024
    #: Longest PDU of any type that is read; a longer one is refused before a byte of it is buffered.
    pdu_bytes: int = MEBIBYTE
    #: Largest message: bytes of command set and dataset together.
    instance_bytes: int = 512 * MEBIBYTE
    #: Associations at the same time; one more is rejected (transient, local limit exceeded).
    associations: int = 64
    #: Connections at the same time, with or without an association; one more is closed immediately.
    connections: int = 1024
    #: ARTIM timer, seconds: from connection to A-ASSOCIATE-RQ, TLS included, and from the last sent PDU to the end.
    artim_s: float = 10.0
    #: Seconds from the first byte of a PDU to its last.
    pdu_s: float = 30.0
    #: Seconds between two PDUs of an association.
    idle_s: float = 60.0
    #: Seconds for the peer to accept an answer.
    send_s: float = 30.0
