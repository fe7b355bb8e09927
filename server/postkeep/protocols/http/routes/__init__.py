"""The REST resources, one module each; all below /api/v1."""
