"""ISMRMRD (MRD) files: header, readouts, k-space grid, noise, positions, timing."""
