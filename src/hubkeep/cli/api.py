"""``hubkeep api``: what the hub's HTTPS API takes, gives and refuses."""

from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, client_of
from .output import print_json


def api(data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None) -> None:
    """Print the description of the HTTPS API (OpenAPI 3.1, JSON), for tools that make clients or tests of it."""
    with client_of(data, connection_string) as client:
        print_json(client.get("/openapi.json"))
