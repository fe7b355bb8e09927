"""REST API for administration (OpenAPI)."""
