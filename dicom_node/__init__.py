"""The DICOM interface: receives studies, prepares their pixels, writes results back."""
