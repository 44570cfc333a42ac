"""The Redis client over TLS."""

import asyncio
import datetime
import gc
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import private_server
from tests.servers import Server, ServerError
from tests.servers.processes import free_port
from tests.unified_storage.redis.clients import COUNT, client_of, client_on
from unified_storage import StorageConfigurationError, StorageConnectionError

pytest.importorskip("cryptography")


def _write_certificate(folder: Path) -> None:
    """A certificate for 127.0.0.1 that nobody else has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "test.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "test.key").write_bytes(secret)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server("redis") as server:
        node, port = server.nodes[0], free_port()
        node.stop()
        folder = server.new_folder("tls")
        _write_certificate(folder)
        files = ["--tls-cert-file", f"{folder}/test.crt", "--tls-key-file", f"{folder}/test.key"]
        node.command = [*node.command, "--tls-port", str(port), *files, "--tls-auth-clients", "no"]
        try:
            node.start()
        except ServerError as reason:
            if "Bad directive" not in str(reason):
                raise
            pytest.skip("this server was built without TLS")
        server.url = f"rediss://127.0.0.1:{port}/0"
        yield server


@pytest.fixture
def folder(server: Server) -> Path:
    """Where the certificate is."""
    return server.folder / "tls"


async def test_a_signed_server_is_trusted_and_another_one_is_not(server: Server, folder: Path) -> None:
    async with client_on(f"{server.url}?ssl_ca_certs={folder}/test.crt") as client:
        assert await client.run(COUNT, ["tls"], ["x" * 1_000_000], timeout=5) == 1
        assert await asyncio.gather(*(client.run(COUNT, ["tls"], [], timeout=5) for _ in range(30))) == [*range(2, 32)]
    async with client_on(server.url) as client:
        with pytest.raises(StorageConnectionError, match="certificate verify failed"):
            await client.run(COUNT, ["tls"], [], timeout=5)
    async with client_on(server.url, ssl_cert_reqs="none", ssl_check_hostname="false") as client:
        assert await client.run(COUNT, ["tls"], [], timeout=5) == 32


async def test_a_certificate_that_is_not_there_is_said_at_once(server: Server, folder: Path) -> None:
    async with client_on(f"{server.url}?ssl_ca_certs={folder}/missing.crt") as client:
        with pytest.raises((StorageConnectionError, StorageConfigurationError), match="No such file"):
            await client.run(COUNT, ["tls"], [], timeout=5)


def test_connections_of_loops_that_are_gone_are_closed_without_a_warning(server: Server, folder: Path) -> None:
    client = client_of(f"{server.url}?ssl_ca_certs={folder}/test.crt")
    still = asyncio.new_event_loop()
    assert still.run_until_complete(client.run(COUNT, ["gone"], [], timeout=5)) == 1
    closed = asyncio.new_event_loop()
    assert closed.run_until_complete(client.run(COUNT, ["gone"], [], timeout=5)) == 2
    closed.close()
    asyncio.run(client.close())
    still.close()
    asyncio.run(client_of(server.url).close())
    del still, closed, client
    gc.collect()


async def test_a_server_that_was_killed_comes_back(server: Server, folder: Path) -> None:
    async with client_on(f"{server.url}?ssl_ca_certs={folder}/test.crt") as client:
        assert await client.run(COUNT, ["back"], [], timeout=5) == 1
        server.kill()
        await asyncio.to_thread(server.start)
        assert await client.run(COUNT, ["back"], [], timeout=5) == 2
