"""Residuals of data consistency operators, for tests."""


def residual_energies(operator, image):
    """Return ||A x - y||^2 and ||y||^2 at the measured samples."""
    difference, data = (float(values.abs().double().square().sum()) for values in operator.at_samples(image))
    return difference, data
