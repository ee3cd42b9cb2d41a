"""Tables: tidy CSV for machines, Markdown and LaTeX for readers."""
