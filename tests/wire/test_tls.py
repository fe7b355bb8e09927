"""runtime.tls against OpenSSL's client (ssl.SSLSocket in a thread) and asyncio's, on real sockets."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import SystemClock
from postkeep.runtime.files import SystemFiles
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.tls import accept_tls, client_context, start_tls
from postkeep.runtime.tlstransport import HANDSHAKE_LIMIT, TlsTransport

from tests.support.clock import FakeClock, until
from tests.support.echo import Echo, Service, listening, tls_client


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "sslcert", "mail.example.test", SystemFiles(), SystemClock())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_echo_and_close_notify(certificates: Certificates, version: ssl.TLSVersion) -> None:
    service = Service(Echo)
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        reader, writer = await tls_client(port, maximum_version=version)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        (echo,) = service.made
        assert isinstance(echo.transport, TlsTransport)
        assert echo.transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
        assert echo.transport.get_extra_info("peername")[0] == "127.0.0.1"
        assert echo.transport.get_extra_info("sockname")[1] == port
        assert echo.transport.get_extra_info("cipher")[0]
        assert echo.transport.get_extra_info("nothing", 7) == 7
        assert not echo.transport.is_closing()
        echo.transport.close()
        assert echo.transport.is_closing()
        assert await reader.read() == b""  # asyncio raises without close_notify? it ends cleanly with it
        assert await echo.lost is None
        writer.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_tls_is_refused(certificates: Certificates) -> None:
    service = Service(Echo)
    context = client_context(verify=False)
    context.set_ciphers("ALL:@SECLEVEL=0")  # or the client itself would not offer it
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="x.test")
        assert service.made == []


async def test_megabytes_both_ways(certificates: Certificates) -> None:
    service = Service(Echo)
    data = bytes(range(256)) * 16_384  # 4 MiB
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        reader, writer = await tls_client(port)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.close()
        await until(lambda: service.made[0].lost.done())
        assert service.made[0].ended


async def test_flow_control_reaches_the_protocol_and_memory_stays_bounded(certificates: Certificates) -> None:
    service = Service(Echo)
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        reader, writer = await tls_client(port)
        writer.write(b"x")
        await reader.readexactly(1)
        (echo,) = service.made
        writer.transport.pause_reading()
        block = b"y" * 65_536
        written = 0
        while not echo.paused and written < 1 << 28:
            echo.transport.write(block)
            written += len(block)
            await asyncio.sleep(0)
        assert echo.paused == 1
        assert echo.transport.get_write_buffer_size() < 1 << 20
        writer.transport.resume_reading()
        assert await reader.readexactly(written) == b"y" * written
        await until(lambda: echo.resumed == 1)
        writer.close()


async def test_pause_reading_stops_at_once_and_loses_nothing(certificates: Certificates) -> None:
    class Sipper(Echo):
        def data_received(self, data: bytes) -> None:
            self.received += data
            self.transport.pause_reading()

    service = Service(Sipper)
    data = b"".join(b"%08d" % n for n in range(40_000))
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        _, writer = await tls_client(port)
        writer.write(data)
        await until(lambda: bool(service.made and service.made[0].received))
        (sipper,) = service.made
        before = len(sipper.received)
        assert before <= 16_384
        assert not sipper.transport.is_reading()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(sipper.received) == before
        while len(sipper.received) < len(data):
            sipper.transport.resume_reading()
            await asyncio.sleep(0)
        assert bytes(sipper.received) == data
        writer.close()


async def test_a_peer_that_never_reads_is_cut_off_after_close(certificates: Certificates) -> None:
    clock = FakeClock()
    service = Service(Echo)
    async with listening(accept_tls(service.factory, certificates.server_context(), clock=clock)) as port:
        reader, writer = await tls_client(port)
        writer.write(b"x")
        await reader.readexactly(1)
        (echo,) = service.made
        writer.transport.pause_reading()
        for _ in range(200):
            echo.transport.write(b"z" * 65_536)
            await asyncio.sleep(0)
        echo.transport.close()
        assert not echo.lost.done()
        await clock.advance(31)
        await until(lambda: echo.lost.done())
        writer.transport.abort()


@pytest.mark.parametrize(
    "garbage",
    [
        b"EHLO mail.example.test\r\n",
        b"\x16\x03\x01\xff\xff" + b"\0" * 70_000,
        b"\0" * 100,
        b"\x16\x03\x01\x00\x05\x01",
    ],
    ids=["plain-smtp", "huge-record", "nul", "truncated"],
)
async def test_garbage_for_a_handshake_ends_quietly(
    certificates: Certificates, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(Echo)
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(garbage)
            writer.write_eof()
            await reader.read()
        writer.close()
    assert service.made == []
    assert caplog.records == []


async def test_a_handshake_that_stalls_is_ended_in_time(certificates: Certificates) -> None:
    clock = FakeClock()
    pending = ConnectionLimiter(10, 10)
    service = Service(Echo)
    factory = accept_tls(service.factory, certificates.server_context(), clock=clock, pending=pending)
    async with listening(factory) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03")
        await until(lambda: pending.open == 1)
        await clock.advance(HANDSHAKE_LIMIT + 1)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await until(lambda: pending.open == 0)
        writer.close()
    assert service.made == []


async def test_handshakes_under_way_are_bounded(certificates: Certificates) -> None:
    pending = ConnectionLimiter(100, 2)
    service = Service(Echo)
    async with listening(accept_tls(service.factory, certificates.server_context(), pending=pending)) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: pending.open == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        for _, other in idle:
            other.close()
        writer.close()
        await until(lambda: pending.open == 0)
        reader, writer = await tls_client(port)
        writer.write(b"in")
        assert await reader.readexactly(2) == b"in"
        assert pending.open == 0
        writer.close()


async def test_renegotiation_is_switched_off(certificates: Certificates) -> None:
    assert certificates.server_context().options & ssl.OP_NO_RENEGOTIATION


class Upgrading(Echo):
    """STARTTLS as IMAP and POP3 do it."""

    context: ssl.SSLContext
    clock: Any = SystemClock()

    def data_received(self, data: bytes) -> None:
        command, newline, leftover = data.partition(b"STARTTLS\r\n")
        if newline and not command:
            self.transport.write(b"OK begin TLS\r\n")
            self.transport = start_tls(self.transport, self, self.context, leftover, clock=self.clock)
            return
        super().data_received(data)


@pytest.fixture
def upgrading(certificates: Certificates) -> type[Upgrading]:
    return type("Upgrading", (Upgrading,), {"context": certificates.server_context()})


async def test_starttls(upgrading: type[Upgrading]) -> None:
    service = Service(upgrading)
    async with listening(service.factory) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"STARTTLS\r\n")
        assert await reader.readline() == b"OK begin TLS\r\n"
        service.made[0].transport.write(b"written before the handshake")
        await writer.start_tls(client_context(verify=False), server_hostname="mail.example.test")
        assert await reader.readexactly(28) == b"written before the handshake"
        writer.write(b"inside" * 10_000)
        assert await reader.readexactly(60_000) == b"inside" * 10_000
        writer.close()
        await until(lambda: service.made[0].lost.done())


async def test_plaintext_after_starttls_never_reaches_the_protocol(upgrading: type[Upgrading]) -> None:
    """The STARTTLS injection (CVE-2011-0411 and its family)."""
    service = Service(upgrading)
    async with listening(service.factory) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"STARTTLS\r\nDELETE ALL\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await until(lambda: service.made[0].lost.done())
        assert service.made[0].received == b""
        writer.close()


async def test_starttls_handshake_that_stalls_ends_the_connection(upgrading: type[Upgrading]) -> None:
    clock = FakeClock()
    upgrading.clock = clock
    service = Service(upgrading)
    async with listening(service.factory) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"STARTTLS\r\n")
        await reader.readline()
        await clock.advance(HANDSHAKE_LIMIT + 1)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await until(lambda: service.made[0].lost.done())
        writer.close()


async def test_as_a_client_against_asyncio_s_own_server(certificates: Certificates) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(100_000))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificates.server_context())
    port = server.sockets[0].getsockname()[1]
    results: list[Exception | None] = []

    class Client(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = start_tls(
                transport, self, client_context(verify=False), server_side=False, on_handshake=results.append
            )
            self.transport.write(b"q" * 100_000)

        def data_received(self, data: bytes) -> None:
            self.received += data

    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    await client.lost
    assert bytes(client.received) == b"q" * 100_000
    assert client.ended
    assert results == [None]
    server.close()


async def test_a_failed_client_handshake_is_reported_once() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 I do not speak TLS\r\n")
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    results: list[Exception | None] = []

    class Client(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = start_tls(
                transport, self, client_context(verify=False), server_side=False, on_handshake=results.append
            )

    port = server.sockets[0].getsockname()[1]
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    await client.lost
    assert len(results) == 1
    assert isinstance(results[0], ssl.SSLError)
    server.close()


async def test_a_protocol_that_raises_loses_its_connection_only(certificates: Certificates) -> None:
    class Broken(Echo):
        def data_received(self, data: bytes) -> None:
            raise ValueError("a bug")

    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    service = Service(Broken)
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        reader, writer = await tls_client(port)
        writer.write(b"x")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await until(lambda: service.made[0].lost.done())
        writer.close()
    assert isinstance(heard[0]["exception"], ValueError)


async def test_reset_in_the_middle_ends_the_protocol_once(certificates: Certificates) -> None:
    service = Service(Echo)
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        reader, writer = await tls_client(port)
        writer.write(b"x")
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await until(lambda: service.made[0].lost.done())
        assert len(service.made) == 1
        assert not service.made[0].ended  # a reset is no end of the input


async def test_calls_on_a_transport_whose_socket_is_gone_do_nothing(certificates: Certificates) -> None:
    """A task may use the transport between the socket's end and connection_lost."""
    service = Service(Echo)
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        reader, writer = await tls_client(port)
        writer.write(b"x")
        await reader.readexactly(1)
        (echo,) = service.made
        echo.transport._raw.abort()
        echo.transport.write(b"y")
        echo.transport.pause_reading()
        echo.transport.resume_reading()
        await until(lambda: echo.lost.done())
        echo.transport.write(b"z")
        echo.transport.close()
        echo.transport.abort()
        assert echo.transport.is_closing()
        assert echo.received == b"x"
        writer.close()


async def test_a_flipped_bit_in_a_record_ends_the_connection(certificates: Certificates) -> None:
    service = Service(Echo)
    async with listening(accept_tls(service.factory, certificates.server_context())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(verify=False).wrap_bio(incoming, outgoing)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65_536))
        client.write(b"secret")
        record = bytearray(outgoing.read())
        record[-1] ^= 1
        writer.write(record)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await until(lambda: service.made[0].lost.done())
        assert service.made[0].received == b""
        writer.close()
