"""Analytic phantom: a beating heart of moving ellipses, scanned with coils and noise, whose k-space is exact."""
