"""A device that listens: messages, direct methods, desired properties. Run it with:

hubkeep run -- python samples/python/device.py

It ends when the method `stop` is called:  hubkeep device call first-device stop
"""

import os
import threading

from azure.iot.device import IoTHubDeviceClient, MethodResponse

client = IoTHubDeviceClient.create_from_connection_string(os.environ["IOTHUB_DEVICE_CONNECTION_STRING"])
stopped = threading.Event()


def on_message(message):
    print(f"message: {message.data.decode()} {message.custom_properties}", flush=True)


def on_method(request):
    print(f"method: {request.name} {request.payload}", flush=True)
    client.send_method_response(MethodResponse.create_from_method_request(request, 200, {"done": request.name}))
    if request.name == "stop":
        stopped.set()


def on_desired(patch):
    print(f"desired: {patch}", flush=True)
    client.patch_twin_reported_properties({name: value for name, value in patch.items() if name != "$version"})


client.on_message_received = on_message
client.on_method_request_received = on_method
client.on_twin_desired_properties_patch_received = on_desired
client.connect()
print("listening", flush=True)
stopped.wait()
client.shutdown()
