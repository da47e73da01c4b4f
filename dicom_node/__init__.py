"""The DICOM face: receives studies, prepares their pixels, writes results back."""
