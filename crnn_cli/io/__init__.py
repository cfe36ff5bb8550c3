"""Files to images and k-space, and back: NIfTI, DICOM, ISMRMRD and other raw data; without torch."""
