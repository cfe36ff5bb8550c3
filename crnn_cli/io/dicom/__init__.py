"""DICOM series, read and written, and DICOM Segmentation objects, through pydicom and highdicom."""
