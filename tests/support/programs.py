"""A Runner (postkeep_appliance.host.run) that starts nothing: it notes commands and answers as told."""

from collections.abc import Callable, Sequence

from postkeep_appliance.host.port import HostError
from postkeep_appliance.host.run import SECONDS, Output, ProgramFailed

Answer = Callable[[Sequence[str], str], Output | None]


class FakePrograms:
    """`answers` by program name: called with arguments and standard input, gives an Output (None: success)."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}
        self.calls: list[tuple[str, ...]] = []
        self.inputs: list[str] = []

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        seconds: float = SECONDS,
        check: bool = True,
        line: Callable[[str], None] | None = None,
    ) -> Output:
        self.calls.append(tuple(argv))
        self.inputs.append(stdin)
        answer = self.answers.get(argv[0])
        output = (answer(argv, stdin) if answer else None) or Output(0, "", "")
        if check and output.status != 0:
            raise ProgramFailed(argv, output)
        return output

    def named(self, name: str) -> list[tuple[str, ...]]:
        return [call for call in self.calls if call[0] == name]


def missing(argv: Sequence[str], stdin: str) -> Output | None:
    """A program that is not installed."""
    raise HostError(f"{argv[0]} cannot be run: No such file or directory")
