"""Argosy: database-as-a-service you can own, over the OpenStack Trove v1.0 API.

The packages, in the order in which to learn the system, are listed in docs/architecture.md.
"""

__version__ = "0.1.0"
