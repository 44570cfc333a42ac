"""MariaDB Galera: three servers that all take writes. Slow to start (about half a minute), so on demand only."""

from pathlib import Path

from tests.servers.mariadb import MariaDB
from tests.servers.processes import ServerError, free_port
from tests.servers.programs import MissingServer, Programs
from tests.servers.server import RecordFile

PROVIDERS = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")
SIZE = 3


class Galera(MariaDB):
    """Three nodes, each with all data. One that was killed may start again; when all are dead the cluster is over."""

    def __init__(self, programs: Programs, record: RecordFile) -> None:
        provider = next((path for path in PROVIDERS if Path(path).exists()), None)
        if provider is None:
            raise MissingServer(f"Galera's library is not at {' or '.join(PROVIDERS)}")
        super().__init__(programs, record)
        for _ in range(SIZE - 1):
            self.add_server()
        places = [f"127.0.0.1:{free_port()}" for _ in self.nodes]
        for node, place in zip(self.nodes, places, strict=True):
            node.command = [*node.command, *self._galera_options(provider, place, places)]
        self.nodes[0].command = [*self.nodes[0].command, "--wsrep-new-cluster"]
        self.url = f"mysql://root@{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}/test"

    @staticmethod
    def _galera_options(provider: str, place: str, places: list[str]) -> list[str]:
        incoming, receiving = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        return [
            "--wsrep-on=ON",
            f"--wsrep-provider={provider}",
            f"--wsrep-cluster-address=gcomm://{','.join(places)}",
            f"--wsrep-node-address={place}",
            f"--wsrep-provider-options=gmcast.listen_addr=tcp://{place};ist.recv_addr={incoming}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address={receiving}",
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
        ]

    def start(self) -> None:
        """One after the other: the first founds the cluster, the others copy its data before they answer."""
        if self.nodes[0].version:
            raise ServerError("a Galera cluster of which all nodes were down has to be found anew: take a fresh one")
        for node in self.nodes:
            node.start()
        self.nodes[0].command = [word for word in self.nodes[0].command if word != "--wsrep-new-cluster"]
