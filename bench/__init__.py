"""What `make bench` measures: Argosy against a rival on the same machine, in the same run, in turns.

`python -m bench` runs everything and writes `bench/RESULTS.md`; `python -m bench create` (or `api`, `memory`)
measures one part anew and keeps the others' results. `--quick` proves in about two minutes that it works, and
writes nothing: its numbers are of too few rounds.

- `create`: a client's way from the request for a database to its first query, against a script that clones
  the same template and starts the same server by hand (`by_hand.py`).
- `api`: requests per second of `show` and `list`, against the barest FastAPI + SQLAlchemy application that
  answers the same (`bare.py`).
- `backup`: backups and restores of 1 GB, against the engine's own tool piped to `zstd -T0`, and what they cost a client.
- `cloud`: a create on a real OpenStack, split into the cloud's share and ours; not among "everything".
- `memory`: what the control plane's processes and the agents hold when nothing happens.

Nothing is pinned to a processor: servers, rivals and the programs that load them share the machine as they
would anywhere. So ratios count, and each comes from measurements taken in turns.
"""
