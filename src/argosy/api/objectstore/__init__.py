"""The object store, as Swift's clients speak to one: accounts, containers and objects of the caller's project."""
