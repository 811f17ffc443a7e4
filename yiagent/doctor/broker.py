"""Does the MQTT broker let the agent in, and may it do there what it has to? Seen under a client id of its own."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Final

from yiagent.broker import Acknowledged, Received
from yiagent.doctor.findings import Findings
from yiagent.probe import ANSWER_TIMEOUT_S, BrokerLost, Probe, probe_broker
from yiagent.settings import Config, MqttConfig
from yiagent.topics import Topics

ECHO_TIMEOUT_S: Final = 2.0


async def examine_broker(config: Config, findings: Findings) -> None:
    """Look at the configured broker."""
    mqtt = config.mqtt
    if mqtt.host is None:
        findings.skip("broker", "mqtt.host is not set: no command can reach the agent")
        return
    where = f"{mqtt.host}:{mqtt.port}"
    # Another id than the agent's: the broker would throw a running agent off.
    client_id = f"yiagent-{config.device.id}-doctor"
    topics = Topics.of(mqtt.prefix, config.device.id)
    try:
        async with probe_broker(mqtt, client_id) as probe:
            findings.ok("broker", f"{where}: {_described(mqtt, mqtt5=probe.connection.mqtt5)}")
            await _examine_rights(probe, topics, findings)
    except BrokerLost as lost:
        findings.fail("broker", f"{where}: {lost}")
    except TimeoutError:
        findings.fail("broker", f"{where}: it takes the connection but does not answer (mqtt.host, mqtt.port)")


def _described(mqtt: MqttConfig, *, mqtt5: bool) -> str:
    version = "MQTT 5" if mqtt5 else "MQTT 3.1.1 (it does not speak 5)"
    user = f"as user {mqtt.username}" if mqtt.username is not None else "without a user name"
    return f"connected by {version}, {user}, {'encrypted' if mqtt.tls is not None else 'not encrypted'}"


async def _examine_rights(probe: Probe, topics: Topics, findings: Findings) -> None:
    wanted = (topics.any_command, topics.request)
    refused = [topic for topic in wanted if not await probe.may_subscribe(topic)]
    if refused:
        message = f"the broker does not let this user listen to {' and '.join(refused)}: check its access list"
        findings.fail("broker, commands", message)
    else:
        findings.ok("broker, commands", f"it takes the subscriptions to {' and '.join(wanted)}")
    await _examine_publishing(probe, topics.response, findings)


async def _examine_publishing(probe: Probe, topic: str, findings: Findings) -> None:
    what = "broker, answers"
    mark = f"doctor-{secrets.token_hex(8)}"
    message = json.dumps({"transaction": mark, "status": "ok", "error": None, "state": None})
    if probe.connection.mqtt5:
        probe.connection.publish(topic, message, qos=1)
        if (await probe.next(Acknowledged, ANSWER_TIMEOUT_S)).allowed:
            findings.ok(what, f"may publish to {topic}")
        else:
            findings.fail(what, f"the broker does not let this user publish to {topic}: check its access list")
        return
    # MQTT 3.1.1 has no word for a refused message; that it comes back is the only proof.
    listens = await probe.may_subscribe(topic)
    probe.connection.publish(topic, message, qos=1)
    if listens and await _comes_back(probe, topic, mark):
        findings.ok(what, f"may publish to {topic}")
    else:
        tell = f"it cannot be told whether this user may publish to {topic}: a message did not come back"
        findings.warn(what, f"{tell}, and by MQTT 3.1.1 a broker does not say why. Check its access list")


async def _comes_back(probe: Probe, topic: str, mark: str) -> bool:
    try:
        async with asyncio.timeout(ECHO_TIMEOUT_S):
            while True:
                message = await probe.next(Received, ECHO_TIMEOUT_S)
                if message.topic == topic and mark.encode() in message.payload:
                    return True
    except TimeoutError:
        return False
