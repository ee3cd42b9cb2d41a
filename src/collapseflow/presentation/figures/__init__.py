"""One function a figure; each draws from arrays or tidy tables and saves it."""
