"""The REST API: Trove's v1.0 routes (`v1/`), what Trove never had (`extensions/`), a small Keystone (`identity/`).

A route tells one story in one order: may you, is it yours, does it make sense, begin, answer. No cloud call
and no wait for a workflow happens in a route.
"""
