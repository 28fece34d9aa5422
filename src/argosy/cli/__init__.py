"""The command line: a client of the public API, with no private way in.

Modules import little when they are loaded: `argosy --help` and a list should be there at once.
"""
