"""MR physics on tensors: Fourier transforms, sampling, coils, data consistency, classical methods, quality measures."""
