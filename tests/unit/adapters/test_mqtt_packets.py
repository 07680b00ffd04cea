"""MQTT on the wire: what comes in pieces, what is no MQTT, what we send."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ofevents_adapters import mqtt_packets as packets
from ofevents_adapters.mqtt_packets import Bye, Connack, Decoder, Malformed, Pong, Publish, Suback


def text(value: str) -> bytes:
    return struct.pack("!H", len(value)) + value.encode()


def packet(head: int, body: bytes) -> bytes:
    return packets._packed(head, body)


def publish(payload: bytes, *, qos: int = 1, properties: bytes = b"") -> bytes:
    mid = struct.pack("!H", 7) if qos else b""
    return packet(0x30 | qos << 1, text("a/b") + mid + properties + payload)


def feed(data: bytes, version: packets.Version = 4) -> list[packets.Packet]:
    return Decoder(version).feed(data)


def test_a_message_of_each_version() -> None:
    assert feed(publish(b"x")) == [Publish("a/b", b"x", 1, 7)]
    assert feed(publish(b"", qos=0)) == [Publish("a/b", b"")]
    assert feed(publish(b"x", qos=2, properties=b"\0"), 5) == [Publish("a/b", b"x", 2, 7)]
    flags = packet(0x3B, text("a/b") + b"\0\7x")
    assert feed(flags) == [Publish("a/b", b"x", 1, 7, retain=True, dup=True)]


def test_the_properties_of_a_message() -> None:
    made = Properties(PacketTypes.PUBLISH)
    made.ContentType = "text/plain"
    made.UserProperty = [("a", "1"), ("a", "2"), ("ü", "")]
    made.MessageExpiryInterval = 9
    made.CorrelationData = b"\0\xff"
    made.PayloadFormatIndicator = 1
    made.ResponseTopic = "r"
    made.SubscriptionIdentifier = 268_435_455
    [message] = feed(publish(b"x", properties=made.pack()), 5)
    assert message == Publish(
        "a/b", b"x", 1, 7, content_type="text/plain", properties=(("a", "1"), ("a", "2"), ("ü", ""))
    )


def test_answers_of_the_broker() -> None:
    assert feed(b"\x20\x02\x01\x00") == [Connack(True, 0)]
    assert feed(b"\x90\x03\x00\x01\x80") == [Suback(1, 0x80)]
    assert feed(b"\xd0\x00\xd0\x00") == [Pong(), Pong()]
    assert feed(b"\x62\x02\x00\x09") == [packets.Pubrel(9)]
    assert feed(b"\x62\x03\x00\x09\x92", 5) == [packets.Pubrel(9)]
    assert feed(b"\xe0\x00", 5) == [Bye(0)]
    why = packets._packed(0xE0, b"\x8e" + bytes((4,)) + b"\x1f" + text("x"))
    assert feed(why, 5) == [Bye(0x8E, {packets.REASON: "x"})]
    keep = packet(0x20, b"\x00\x00" + b"\x03\x13\x00\x05")
    assert feed(keep, 5) == [Connack(False, 0, {packets.SERVER_KEEP_ALIVE: 5})]


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=5),
    cuts=st.lists(st.integers(1, 50), max_size=20),
    qos=st.integers(0, 2),
)
def test_packets_may_come_in_any_pieces(payloads: list[bytes], cuts: list[int], qos: int) -> None:
    whole = b"".join(publish(one, qos=qos) for one in payloads)
    decoder, found = Decoder(4), []
    for cut in [*cuts, len(whole)]:
        found += decoder.feed(whole[:cut])
        whole = whole[cut:]
    assert [one.payload for one in found if isinstance(one, Publish)] == payloads


@given(st.binary(max_size=80), st.sampled_from([4, 5]))
def test_bytes_that_are_no_mqtt_are_never_more_than_malformed(
    data: bytes, version: packets.Version
) -> None:
    try:
        feed(data, version)
    except Malformed as error:
        assert str(error)


@pytest.mark.parametrize(
    ("data", "version", "why"),
    [
        (b"\x30\xff\xff\xff\xff\x01", 4, "more than four bytes"),
        (b"\x30\x01\x00", 4, "cut off"),
        (b"\x30\x04\x00\x09ab", 4, "cut off"),
        (b"\x36\x05\x00\x01a\x00\x07", 4, "QoS 3"),
        (b"\xe0\x00", 4, "type 14"),
        (b"\x10\x00", 4, "type 1"),
        (b"HTTP/1.1 400 Bad Request\r\n", 4, "no broker sends|cut off"),
        (b"\x30\x06\x00\x01a\x02\x7f\x00", 5, "property 0x7f"),
    ],
)
def test_what_is_no_mqtt(data: bytes, version: packets.Version, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        feed(data + b"\0" * 90, version)


def test_what_we_send() -> None:
    made = packets.connect(
        4, "me", clean=True, keep_alive=30, username="u", password="", receive_maximum=9
    )
    assert made == b"\x10\x13\x00\x04MQTT\x04\xc2\x00\x1e\x00\x02me\x00\x01u\x00\x00"
    made = packets.connect(
        5, "me", clean=False, keep_alive=30, username=None, password=None, receive_maximum=9
    )
    assert made.endswith(b"MQTT\x05\x00\x00\x1e\x08\x21\x00\x09\x11\xff\xff\xff\xff\x00\x02me")
    assert packets.subscribe(4, 1, "a", 2, retained=False) == b"\x82\x06\x00\x01\x00\x01a\x02"
    assert packets.subscribe(5, 1, "a", 1, retained=True)[-1] == 0x11
    assert packets.subscribe(5, 1, "a", 1, retained=False)[-1] == 0x21
    assert packets.acknowledgement(0, 0) == b""
    assert packets.acknowledgement(1, 258) == b"\x40\x02\x01\x02"
    assert packets.acknowledgement(2, 258) == b"\x50\x02\x01\x02"
    assert packets.completion(258) == b"\x70\x02\x01\x02"
    assert packets._packed(0x30, b"x" * 200)[:3] == b"\x30\xc8\x01"
