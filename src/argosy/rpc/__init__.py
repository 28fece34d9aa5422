"""What control plane and guest say to each other: messages, certificates, client and server.

HTTPS both ways with mutual TLS. The control plane calls a guest's agent (`messages.py`, `client.py`); a
guest reports to the conductor (`reports.py`). Agents import this, so heavy libraries stay out of it.
"""
