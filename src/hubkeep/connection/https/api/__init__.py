"""The description of the HTTPS API: what each operation takes, gives and refuses, beside its row in ``operations``.

``document`` turns the rows into the OpenAPI document that the hub serves and docs/reference shows. Handlers do not read
them; tests hold every answer, and the router, against the document.
"""

from .document import openapi_document, paths_of

__all__ = ["openapi_document", "paths_of"]
