"""crnn: dynamic MR reconstruction and slice-sequence segmentation with convolutional recurrent networks."""

__version__ = "0.1.0"
