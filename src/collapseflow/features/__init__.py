"""What is read from images: pixels, scattering coefficients, layers of networks."""
