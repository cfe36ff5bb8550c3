"""One image of a DICOM file, as its header describes it."""
