"""The machine image: a small Debian 12 with the agent and the software of some datastore versions.

`build.py` is the order of the work; each noun has a file of its own. What lies in `guest/` is copied into the image as it
is: units and small programs that run on the machine.
"""
