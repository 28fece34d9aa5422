"""The names in the certificates of the control plane's authority."""

CONTROL_PLANE = "control-plane"


def guest(instance_id: str) -> str:
    """A guest's name: it may report for this instance, and for no other."""
    return f"guest:{instance_id}"
