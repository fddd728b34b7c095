"""A device sends three messages. Run it with: hubkeep run -- python samples/python/send.py"""

import json
import os

from azure.iot.device import IoTHubDeviceClient, Message

# HostName=...;DeviceId=...;SharedAccessKey=...   (hubkeep connection-string --device ID)
client = IoTHubDeviceClient.create_from_connection_string(os.environ["IOTHUB_DEVICE_CONNECTION_STRING"])
client.connect()

for number in range(3):
    message = Message(json.dumps({"temperature": 21 + number}))
    message.content_type = "application/json"  # with these two, routes can look into the body
    message.content_encoding = "utf-8"
    message.custom_properties["alarm"] = "false"
    client.send_message(message)  # returns when the hub has the message on its disk
    print(f"sent {message.data}")

client.shutdown()
