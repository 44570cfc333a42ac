"""Private servers for tests: real ones, on free ports of 127.0.0.1, with their data in a temporary folder.

    with start_private("postgresql") as server:
        ...                 # server.url, server.version
        server.kill()       # SIGKILL, all of it
        server.start()      # the same data on the same port

`scripts/services` starts and stops them from the command line. Only the standard library is needed here.
"""

from tests.servers.processes import ServerError
from tests.servers.programs import MissingServer
from tests.servers.server import Node, Server
from tests.servers.shared import KINDS, start_private

__all__ = ["KINDS", "MissingServer", "Node", "Server", "ServerError", "start_private"]
