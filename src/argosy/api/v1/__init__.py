"""Trove's v1.0 resources, a module each."""
