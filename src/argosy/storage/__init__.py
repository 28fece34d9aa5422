"""Object stores behind one small interface: `base.py` says it, `directory.py` keeps objects in a directory."""
