"""Redis or Valkey: one server, or a cluster."""

import time
from collections.abc import Iterator

from tests.servers.processes import ServerError, free_port, tail
from tests.servers.programs import Programs
from tests.servers.server import Node, RecordFile, Server
from tests.servers.wire import redis_call, redis_version

SLOTS = 16384
SETTLE_SECONDS = 60


class Redis(Server):
    """One server that has on disk what it acknowledges."""

    def __init__(self, programs: Programs, record: RecordFile) -> None:
        super().__init__(programs, record)
        self.url = f"redis://127.0.0.1:{self._node('server').port}/0"

    def _node(self, name: str, *options: str | int) -> Node:
        folder, port = self.new_folder(name), free_port()
        settings = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        arguments = ["--port", str(port), *settings, *durable, *map(str, options)]
        return self.add_node(folder, port, arguments, redis_version)


class RedisCluster(Redis):
    """Masters, `nodes[:3]`, with the slots shared out among them; then a replica of each where there are any."""

    masters = 3
    replicas = 0

    def __init__(self, programs: Programs, record: RecordFile) -> None:
        Server.__init__(self, programs, record)
        count = self.masters + self.replicas
        for number in range(count):
            self._node(f"node-{number}", *self._cluster_options())
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self._founded = False

    @staticmethod
    def _cluster_options() -> Iterator[str | int]:
        # its other port would be 10 000 above the first, which may be anybody's
        yield from ("--cluster-enabled", "yes", "--cluster-port", free_port())
        yield from ("--cluster-node-timeout", 2000, "--cluster-announce-ip", "127.0.0.1")
        # a replica gets its copy at once, not after a wait for others that might want one too
        yield from ("--repl-diskless-sync-delay", 0)
        # a new election may begin at once, not after a stay in the past
        yield from ("--cluster-replica-validity-factor", 0)

    def settle(self) -> None:
        """Found the cluster on the first start; then wait until every node finds it whole."""
        if not self._founded:
            self._found()
            self._founded = True
        limit = time.monotonic() + SETTLE_SECONDS
        while not all(map(self._is_whole, self.nodes)):
            if time.monotonic() > limit:
                raise ServerError(f"no cluster in {SETTLE_SECONDS} seconds\n{tail(self.nodes[0].log)}")
            time.sleep(0.05)

    def _found(self) -> None:
        masters = self.nodes[: self.masters]
        for number, node in enumerate(masters):
            first, behind = SLOTS * number // self.masters, SLOTS * (number + 1) // self.masters
            redis_call(node.port, "CLUSTER", "ADDSLOTS", *range(first, behind))
        for number, node in enumerate(self.nodes):
            redis_call(node.port, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            bus = self.nodes[0].command[self.nodes[0].command.index("--cluster-port") + 1]
            redis_call(node.port, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, bus)
        for node, master in zip(self.nodes[self.masters :], masters, strict=False):
            self._follow(node, redis_call(master.port, "CLUSTER", "MYID").decode())

    def _follow(self, node: Node, master: str) -> None:
        limit = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                redis_call(node.port, "CLUSTER", "REPLICATE", master)
            except OSError:  # it has not heard of that master yet
                if time.monotonic() > limit:
                    raise
                time.sleep(0.05)
            else:
                return

    def _is_whole(self, node: Node) -> bool:
        """Whether it knows every other one for what it is, and has its master's data where it is a replica."""
        known = redis_call(node.port, "CLUSTER", "NODES").decode()
        roles_known = known.count("slave") == self.replicas and known.count("\n") == len(self.nodes)
        troubled = any(word in known for word in ("handshake", "fail", "noaddr"))
        state = redis_call(node.port, "CLUSTER", "INFO").decode()
        return roles_known and not troubled and "cluster_state:ok" in state and self._is_linked(node)

    @staticmethod
    def _is_linked(node: Node) -> bool:
        lines = redis_call(node.port, "INFO", "replication").decode().splitlines()
        return "role:master" in lines or "master_link_status:up" in lines


class RedisClusterWithReplicas(RedisCluster):
    replicas = 3
