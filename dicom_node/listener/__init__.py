"""The DICOM listener: a storage provider (PS3.4 Annex B), from the socket to the received instance."""
