"""A WebSocket server that only echoes, by the `websockets` library alone: what idle clients cost without us.

`python plain_sockets.py PORT`. A message `all` goes to everybody.
"""

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

PUSHED = '{"type":"change","cursor":"' + "x" * 80 + '"}'


async def main() -> None:
    async def echo(connection: ServerConnection) -> None:
        try:
            async for message in connection:
                if message == "all":
                    broadcast(server.connections, PUSHED)
                else:
                    await connection.send(message)
        except ConnectionClosed:
            pass

    async with serve(echo, "127.0.0.1", int(sys.argv[1]), compression=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
