"""Programs: argument lists, never a shell; a time limit and bounded output for each."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from postkeep_appliance.host.port import HostError

SECONDS = 30.0
OUTPUT_LIMIT = 4 << 20
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


class Output(NamedTuple):
    """How a program ended; output cut to OUTPUT_LIMIT."""

    status: int
    out: str
    err: str


class Runner(Protocol):
    async def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        seconds: float = SECONDS,
        check: bool = True,
        line: Callable[[str], None] | None = None,
    ) -> Output:
        """Runs it to its end. `line` gets each line of its output as it comes.

        With `check` a status other than 0 raises HostError with its last words. Raises HostError when it
        cannot be started or is not done in `seconds`; it is killed then, with all that it started.
        `stdin` may hold a secret: it shows up nowhere else.
        """


class ProgramFailed(HostError):
    """A program ended with another status than 0."""

    def __init__(self, argv: Sequence[str], output: Output) -> None:
        said = (output.err or output.out).strip().splitlines()
        super().__init__(f"{argv[0]}: {said[-1][:300] if said else f'ended with status {output.status}'}")
        self.output = output


class SystemRunner:
    """Runs them here. `environment` adds to a small fixed one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = _ENVIRONMENT | dict(environment or {})

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        seconds: float = SECONDS,
        check: bool = True,
        line: Callable[[str], None] | None = None,
    ) -> Output:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                cwd="/",
                start_new_session=True,  # so that a kill reaches what it started
            )
        except OSError as error:
            raise HostError(f"{argv[0]} cannot be run: {error.strerror or error}") from error
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(seconds):
                _, out, err, status = await asyncio.gather(
                    _feed(process.stdin, stdin),
                    _read(process.stdout, line),
                    _read(process.stderr, line),
                    process.wait(),
                )
        except TimeoutError as error:
            raise HostError(f"{argv[0]} was not done after {seconds:.0f} seconds") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        output = Output(status, out, err)
        if check and status != 0:
            raise ProgramFailed(argv, output)
        return output


async def _feed(stream: asyncio.StreamWriter, text: str) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(text.encode())
        await stream.drain()
    stream.close()


async def _read(stream: asyncio.StreamReader, line: Callable[[str], None] | None) -> str:
    """All of it is read, so that the program never blocks; what is past the limit is thrown away."""
    kept, pending = bytearray(), b""
    while block := await stream.read(1 << 16):
        kept += block[: OUTPUT_LIMIT - len(kept)]
        if line is not None:
            *whole, pending = (pending + block).split(b"\n")
            pending = pending[-4096:]
            for one in whole:
                line(one.decode("utf-8", "replace")[:1000])
    if line is not None and pending:
        line(pending.decode("utf-8", "replace")[:1000])
    return kept.decode("utf-8", "replace")
