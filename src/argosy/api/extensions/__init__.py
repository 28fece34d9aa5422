"""What Trove never had: operations, events, images, and the authority behind databases' certificates."""
