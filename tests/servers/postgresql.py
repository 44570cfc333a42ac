"""PostgreSQL: one server, or a primary with a standby that follows it."""

import signal
from pathlib import Path

from tests.servers.processes import free_port
from tests.servers.programs import Programs
from tests.servers.server import Node, RecordFile, Server
from tests.servers.wire import postgresql_version

USER = "postgres"


class PostgreSQL(Server):
    """One server; `postgres` logs in without a password."""

    def __init__(self, programs: Programs, record: RecordFile) -> None:
        super().__init__(programs, record)
        data = self.new_folder("primary")
        self.run(
            "initdb", "--pgdata", data / "data", "--username", USER, "--auth=trust", "--encoding=UTF8", "--no-locale"
        )
        self.primary = self._node(data)
        self.url = f"postgresql://{USER}@127.0.0.1:{self.primary.port}/postgres"

    def _node(self, folder: Path, *options: str) -> Node:
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", *options)
        port = free_port()
        arguments = ["-D", str(folder / "data"), "-p", str(port)]
        for setting in settings:
            arguments += ["-c", setting]
        # SIGINT, unlike SIGTERM, does not wait for clients to leave
        node = self.add_node(folder, port, arguments, postgresql_version, stop_signal=signal.SIGINT)
        node.lock_file = folder / "data" / "postmaster.pid"
        return node


class PostgreSQLPair(PostgreSQL):
    """A primary, `nodes[0]`, and a hot standby, `nodes[1]`, by streaming replication.

    The primary acknowledges a commit when the standby has it, so that a failover loses none; while the standby is
    down, commits wait.
    """

    def __init__(self, programs: Programs, record: RecordFile) -> None:
        super().__init__(programs, record)
        # an option of this process: the promoted standby must not wait for a standby of its own
        self.primary.command = [*self.primary.command, "-c", "synchronous_standby_names=*"]
        self.primary.start()
        folder = self.new_folder("standby")
        source = ("--host=127.0.0.1", f"--port={self.primary.port}", f"--username={USER}")
        self.run("pg_basebackup", "--pgdata", folder / "data", *source, "--write-recovery-conf", "--checkpoint=fast")
        self.standby = self._node(folder)
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.url = f"postgresql://{USER}@{hosts}/postgres?target_session_attrs=read-write"

    def promote(self) -> None:
        """Make the standby the primary; returns when it takes writes.

        The old primary must be dead, and stay so: started again, it would be a second primary.
        """
        self.run("pg_ctl", "promote", "--wait", "--pgdata", self.standby.folder / "data")
