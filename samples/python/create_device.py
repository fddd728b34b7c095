"""A back end registers a device. Run it with: hubkeep run -- python samples/python/create_device.py ID"""

import os
import sys

from azure.iot.hub import IoTHubRegistryManager

device_id = sys.argv[1] if len(sys.argv) > 1 else "press-07"

# HostName=...;SharedAccessKeyName=iothubowner;SharedAccessKey=...   (hubkeep connection-string)
registry = IoTHubRegistryManager.from_connection_string(os.environ["IOTHUB_CONNECTION_STRING"])

# empty keys: the hub makes them
device = registry.create_device_with_sas(device_id, "", "", "enabled")
print(f"created {device.device_id}, {device.status}, generation {device.generation_id}")
print("registered are:", ", ".join(each.device_id for each in registry.get_devices()))
