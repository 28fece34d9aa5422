"""The names in the certificates of the control plane's authority."""

CONTROL_PLANE = "control-plane"


def guest(instance_id: str) -> str:
    """A guest's name: it may report for this instance, and for no other."""
    return f"guest:{instance_id}"


def bootstrap(instance_id: str, identity: int) -> str:
    """A machine's name until its guest has enrolled: it may do that once, and nothing else."""
    return f"bootstrap:{instance_id}:{identity}"


def bootstrapping(peer: str | None) -> tuple[str, int] | None:
    """Whose bootstrap identity it is, and the number of it; None when it is none."""
    before, _, rest = (peer or "").partition(":")
    instance_id, _, identity = rest.partition(":")
    return (instance_id, int(identity)) if before == "bootstrap" and identity.isdecimal() else None


def instance(peer: str | None) -> str | None:
    """Whose guest it is; None when it is no guest."""
    before, _, instance_id = (peer or "").partition(":")
    return instance_id if before == "guest" else None
