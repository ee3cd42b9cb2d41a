"""The page of a study that one can send: one HTML file with all that the study shows."""
