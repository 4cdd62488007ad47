"""The HTTP surface said once: operations, who may call them, schemas, and the OpenAPI document formed of them."""
