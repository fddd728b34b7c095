r"""A device that has nothing but its company's web token: gets a token for the hub, sends, renews it, sends again.

    TOKEN_URL=https://localhost:8444/token TOKEN_TRUST=tokens/trust-bundle.pem \
    hubkeep run -- python device.py press-07.jwt

It holds no key of the hub. The Azure SDK is unmodified: it takes the token as it is, and asks for the next one in time.
"""

import json
import os
import ssl
import sys
import urllib.request
from pathlib import Path

from azure.iot.device import IoTHubDeviceClient, Message

trust = ssl.create_default_context(cafile=os.environ["TOKEN_TRUST"])


def token_for_the_hub() -> str:
    """Shows the web token to the token service."""
    shown = Path(sys.argv[1]).read_text().strip()
    request = urllib.request.Request(
        os.environ["TOKEN_URL"], method="POST", headers={"Authorization": f"Bearer {shown}"}
    )
    with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
        handed = json.load(answer)
    print(f"a token for {handed['deviceId']}, renewed after {handed['renewAfter']}")
    return handed["token"]


client = IoTHubDeviceClient.create_from_sastoken(token_for_the_hub())
# the SDK calls this two minutes before the token ends
client.on_new_sastoken_required = lambda: client.update_sastoken(token_for_the_hub())

client.connect()
client.send_message(Message('{"temperature": 21}'))
print("sent with the first token")
client.update_sastoken(token_for_the_hub())  # as the SDK will ask for it
client.send_message(Message('{"temperature": 22}'))
print("sent with the second token")
client.shutdown()
