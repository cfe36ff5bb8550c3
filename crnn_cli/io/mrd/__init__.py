"""Streams of MRD (ISMRMRD) messages: readouts in, images out, over a pipe or a TCP connection."""
