"""Raw k-space: ISMRMRD, fastMRI, CMRxRecon, MATLAB, BART and NumPy files."""
