"""MariaDB: one server, in which root logs in without a password."""

from pathlib import Path

from tests.servers.processes import free_port
from tests.servers.programs import Programs
from tests.servers.server import Node, RecordFile, Server
from tests.servers.wire import mysql_version


class MariaDB(Server):
    def __init__(self, programs: Programs, record: RecordFile) -> None:
        super().__init__(programs, record)
        self.url = f"mysql://root@127.0.0.1:{self.add_server().port}/test"

    def add_server(self) -> Node:
        """A further server with the tables that every one begins with; not yet started."""
        folder, port = self.new_folder(f"server-{len(self.nodes)}"), free_port()
        # below its base the engine keeps the tables it begins with
        own = ["--no-defaults", f"--basedir={Path(self.programs.main).parent.parent}", f"--datadir={folder / 'data'}"]
        self.run("mariadb-install-db", *own, "--auth-root-authentication-method=normal", "--skip-name-resolve")
        place = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}"]
        return self.add_node(
            folder, port, [*own, *place, f"--pid-file={folder / 'pid'}", "--skip-name-resolve"], mysql_version
        )
