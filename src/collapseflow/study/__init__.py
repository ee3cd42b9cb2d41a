"""The study file: its keys, defaults and checks, and what a study's results share."""
