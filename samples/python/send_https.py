"""A device without any SDK: one HTTPS request, a token made by hand from the standard library.

Run it with: hubkeep run -- python samples/python/send_https.py
"""

import base64
import hashlib
import hmac
import json
import os
import time
import urllib.parse
import urllib.request

# it has three parts: HostName, DeviceId, SharedAccessKey
text = os.environ["IOTHUB_DEVICE_CONNECTION_STRING"]
parts = dict(part.split("=", 1) for part in text.split(";"))
resource = urllib.parse.quote(f"{parts['HostName']}/devices/{parts['DeviceId']}", safe="")

# a shared access signature: the resource and its end in Unix seconds, signed with the decoded key
expiry = int(time.time()) + 600
key = base64.b64decode(parts["SharedAccessKey"])
digest = hmac.new(key, f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
signature = urllib.parse.quote(base64.b64encode(digest), safe="")
token = f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}"

request = urllib.request.Request(
    f"https://{parts['HostName']}/devices/{parts['DeviceId']}/messages/events?api-version=2021-04-12",
    data=json.dumps({"temperature": 21}).encode(),
    headers={"Authorization": token, "Content-Type": "application/json", "iothub-app-alarm": "false"},
)
with urllib.request.urlopen(request) as answer:
    print(answer.status, "the hub has the message on its disk")
