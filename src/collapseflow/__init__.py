"""Features, transfer learning and neural collapse of image data sets.

The science of the workflow lives here as plain functions; ``workflow/scripts`` calls them.
"""

__version__ = "0.1.0"
