"""A WebSocket of an unmodified client, as the socket of a raw peer."""

import websocket

from conversations.mqtt_peer import tls_socket
from hubkeep.testing import HubInThread


class WebSocketPipe:
    """What the peers use of a socket."""

    def __init__(self, hub: HubInThread, subprotocol: str) -> None:
        self._under = tls_socket(hub, 443)
        self._web = websocket.create_connection(
            f"wss://{hub.host_name}/$iothub/websocket", socket=self._under, subprotocols=[subprotocol], timeout=10
        )

    def sendall(self, data: bytes) -> None:
        self._web.send_binary(data)

    def recv(self, _size: int) -> bytes:
        """What one frame holds; nothing once the hub has closed. Raises TimeoutError."""
        try:
            data = self._web.recv()
        except websocket.WebSocketTimeoutException:
            raise TimeoutError from None
        except websocket.WebSocketConnectionClosedException:
            return b""
        return data if isinstance(data, bytes) else b""

    def settimeout(self, seconds: float) -> None:
        self._web.settimeout(seconds)

    def setsockopt(self, *option: int) -> None:
        self._under.setsockopt(*option)

    def close(self) -> None:
        """Without a good-bye."""
        self._under.close()
