"""The HTTP interface, defined once: operations, access, schemas, and the OpenAPI document made from them."""
