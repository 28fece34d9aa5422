"""The mains: what reads the settings, puts the parts together and runs them.

`python -m argosy.processes up|serve|down|status`; the `argosy` command runs this for the user.
"""
