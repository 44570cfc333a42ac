"""MariaDB: one server, in which root logs in without a password."""

from tests.servers.processes import free_port
from tests.servers.programs import Programs
from tests.servers.server import RecordFile, Server
from tests.servers.wire import mysql_version


class MariaDB(Server):
    def __init__(self, programs: Programs, record: RecordFile) -> None:
        super().__init__(programs, record)
        # beside its programs the engine keeps the tables it starts with
        folder, base = self.new_folder("server"), self._base()
        own = ("--no-defaults", f"--basedir={base}", f"--datadir={folder / 'data'}")
        self.run("mariadb-install-db", *own, "--auth-root-authentication-method=normal", "--skip-name-resolve")
        port = free_port()
        place = (f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}")
        self.add_node(
            folder, port, [*own, *place, f"--pid-file={folder / 'pid'}", "--skip-name-resolve"], mysql_version
        )
        self.url = f"mysql://root@127.0.0.1:{port}/test"

    def _base(self) -> str:
        return self.programs.main.rpartition("/")[0].rpartition("/")[0]
