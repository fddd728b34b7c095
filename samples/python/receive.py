"""A back end reads events from the beginning. Run it with: hubkeep run -- python samples/python/receive.py [COUNT]

It ends after COUNT events (3 if not given).
"""

import os
import sys

from azure.eventhub import EventHubConsumerClient

count = int(sys.argv[1]) if len(sys.argv) > 1 else 3

# Endpoint=sb://...;EntityPath=...   (hubkeep connection-string --events)
client = EventHubConsumerClient.from_connection_string(
    os.environ["EVENT_HUB_CONN_STR"], consumer_group=os.environ.get("CONSUMER_GROUP", "$Default")
)

read = []


def on_event(context, event):
    device = event.system_properties[b"iothub-connection-device-id"].decode()
    print(f"{device}: {event.body_as_str()}  partition {context.partition_id} #{event.sequence_number}", flush=True)
    read.append(event)
    if len(read) == count:
        client.close()  # ends receive() below


client.receive(on_event, starting_position="-1")  # "-1": the oldest event kept; "@latest": from now on
