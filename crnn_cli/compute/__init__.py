"""Compute resources: choice of the device, precision, and memory."""
