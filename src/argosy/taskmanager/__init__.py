"""Runs every operation as a durable workflow: one workflow a file, its verbs in `steps/`.

A workflow survives the death of this process at any line; DBOS replays it from its recorded steps.
"""
