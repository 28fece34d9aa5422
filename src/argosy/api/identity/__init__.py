"""The built-in identity on the wire: as much of Keystone's v3 API as the clients of a database service use."""

from argosy.api.identity.routes import identity_router

__all__ = ["identity_router"]
