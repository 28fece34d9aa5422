"""The names in the certificates of the control plane's authority."""

CONTROL_PLANE = "control-plane"


def guest(instance_id: str) -> str:
    """A guest's name: it may report for this instance, and for no other."""
    return f"guest:{instance_id}"


def instance(peer: str | None) -> str | None:
    """Whose guest it is; None when it is no guest."""
    before, _, instance_id = (peer or "").partition(":")
    return instance_id if before == "guest" else None
