"""Loads the `openstack` client with all its plugins, for loaded_client.py."""

import logging
import sys
from contextlib import redirect_stdout
from io import StringIO

sys.argv = ["openstack"]  # what it calls itself is settled when it is loaded

from openstackclient import shell  # noqa: E402

with redirect_stdout(StringIO()):
    shell.main(["module", "list"])  # a command that asks nobody, and finds every plugin on its way
logging.getLogger().handlers.clear()  # each call adds its own
