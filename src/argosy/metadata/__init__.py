"""The metadata database: tables, migrations, and repositories scoped to a project.

SQLite when Argosy runs on one machine, PostgreSQL when its parts run on several. `Store` opens
transactions; `Transaction` has a repository per noun.
"""
