"""What features are asked: collapse, variances, probes, t-SNE."""
