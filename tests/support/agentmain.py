"""The FakeAgent as a program of its own: python -m tests.support.agentmain SOCKET [fresh]"""

import asyncio
import sys
from pathlib import Path

from tests.support.agent import FRESH, AgentSocket, FakeAgent


async def main(path: Path, fresh: bool) -> None:
    agent = FakeAgent(status=FRESH, root_password="postkeep") if fresh else FakeAgent()
    await AgentSocket(path, agent).open()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), "fresh" in sys.argv[2:]))
