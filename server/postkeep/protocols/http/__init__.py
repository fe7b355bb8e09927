"""HTTP: the REST API of the administration (OpenAPI), the pages at the other ports, the Unix socket."""
