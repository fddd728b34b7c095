"""A plain MQTT client with a token made by hand."""

import ssl
import threading
from base64 import b64decode

import pytest
from paho.mqtt import client as paho

from conversations.mqtt_peer import USER_NAME
from hubkeep.testing import HubInThread


@pytest.mark.spec("D-117", "D-E5")
def test_paho_with_a_clean_session_and_qos_0(shared_hub: HubInThread, device_id: str) -> None:
    key = b64decode(shared_hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    options = {"callback_api_version": paho.CallbackAPIVersion.VERSION2} if hasattr(paho, "CallbackAPIVersion") else {}
    client = paho.Client(client_id=device_id, clean_session=True, **options)
    user_name = USER_NAME.format(host=shared_hub.host_name, client_id=device_id)
    client.username_pw_set(user_name, shared_hub.token(f"devices/{device_id}", key=key))
    client.tls_set_context(ssl.create_default_context(cafile=str(shared_hub.trust_bundle)))
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect(shared_hub.host_name, 8883)
    client.loop_start()
    try:
        assert connected.wait(30)
        client.publish(f"devices/{device_id}/messages/events/", "by hand", qos=0).wait_for_publish(30)
        assert shared_hub.wait_for_events(1, device=device_id, within=30)[0]["body"] == "by hand"
    finally:
        client.disconnect()
        client.loop_stop()
