"""A real Apache Kafka: one KRaft process, broker and controller in one, on loopback.

The jars come by Maven into the cache (`make servers`, or the first test that needs
them); the broker starts in about four seconds. It has a plain listener and one that
asks for SASL PLAIN, so that a wrong password can be told from a broker that is away.
It keeps records whatever their timestamp: 30 s after its start it would begin to delete
those older than a week, also those that nobody has read yet.
Used by the conformance rig of `kafka`, the end-to-end tests and the benchmarks.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import trustme
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.servers import HOST, ServerFailed, ServerMissing, cache_dir, free_port, listening, until

VERSION: Final = "4.1.0"
USER: Final = "reader"
PASSWORD: Final = "reader-secret"
"""What the SASL listener accepts."""
_PATIENCE: Final = 120.0
"""Seconds to start, of which it takes four on an idle machine and thirty on a loaded one."""

_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ofevents</groupId><artifactId>kafka-server</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""

_PROPERTIES: Final = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{plain},SASL_PLAINTEXT://{host}:{sasl},\
SSL://{host}:{tls},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,\
SSL:SSL,CONTROLLER:PLAINTEXT
ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.certificate.chain={chain}
ssl.keystore.key={key}
ssl.truststore.type=PEM
ssl.truststore.certificates={ca}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
log.dirs={data}
log.retention.ms=-1
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


def jars() -> Path:
    """The folder of Kafka's jars; fetched with Maven when it is not in the cache.

    Raises:
        ServerMissing: Java or Maven is not installed, or Maven could not get them.
    """
    if not shutil.which("java"):
        raise ServerMissing("Apache Kafka needs Java: apt-get install default-jre-headless")
    target = cache_dir() / f"kafka-{VERSION}"
    if target.is_dir():
        return target
    if not shutil.which("mvn"):
        raise ServerMissing("Apache Kafka is fetched with Maven: apt-get install maven")
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        pom = Path(folder) / "pom.xml"
        pom.write_text(_POM)
        command = ["mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder}/jars", "-DincludeScope=runtime"],
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise ServerMissing(f"Maven could not get Apache Kafka: {done.stdout[-600:]}")
        try:
            os.rename(f"{folder}/jars", target)
        except OSError:  # another process was quicker: its copy is as good
            if not target.is_dir():
                raise
    return target


class Certificates:
    """A made-up authority: its `ca`, and a client's `cert` and `key`, as PEM texts."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self._server = authority.issue_cert(HOST)
        client = authority.issue_cert("reader@example.org")
        self.ca = authority.cert_pem.bytes().decode()
        self.cert = client.cert_chain_pems[0].bytes().decode()
        self.key = client.private_key_pem.bytes().decode()

    def properties(self) -> dict[str, str]:
        """The broker's side, each on one line as Java's properties have it."""
        key = load_pem_private_key(self._server.private_key_pem.bytes(), None)
        texts = {
            "ca": self.ca,
            "chain": self._server.cert_chain_pems[0].bytes().decode(),
            "key": key.private_bytes(
                Encoding.PEM,
                PrivateFormat.PKCS8,
                NoEncryption(),  # the only one Kafka reads
            ).decode(),
        }
        return {name: text.replace("\n", "\\n") for name, text in texts.items()}


class KafkaServer:
    """`async with KafkaServer() as kafka`: up when it is entered, gone when it is left.

    It belongs to no event loop, so a fixture of any scope may hold it.

    Attributes:
        brokers: `host:port` of the plain listener; the same after `restart`.
        sasl_brokers: of the listener that wants `USER` and `PASSWORD`.
        tls_brokers: of the listener that wants a certificate of `certificates`.
    """

    def __init__(self) -> None:
        self._ports = {name: free_port() for name in ("plain", "sasl", "tls", "controller")}
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self.brokers = f"{HOST}:{self._ports['plain']}"
        self.sasl_brokers = f"{HOST}:{self._ports['sasl']}"
        self.tls_brokers = f"{HOST}:{self._ports['tls']}"
        self.certificates = Certificates()

    async def __aenter__(self) -> Self:
        self._jars = await asyncio.to_thread(jars)
        self._folder = Path(tempfile.mkdtemp(prefix="ofevents-kafka-"))
        (self._folder / "server.properties").write_text(
            _PROPERTIES.format(
                **self._ports,
                **self.certificates.properties(),
                host=HOST,
                data=self._folder / "data",
                user=USER,
                password=PASSWORD,
            )
        )
        try:
            await asyncio.to_thread(self._format)
            await self.start()
        except BaseException:
            await self.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()
        if error is not None:
            print(f"--- the end of Kafka's log\n{self.log()}")
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- the process --------------------------------------------------------

    def _java(self, *arguments: str) -> list[str]:
        # One compiler tier and the serial collector: a quick start and few threads.
        tuning = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        level = "-Dorg.slf4j.simpleLogger."
        tuning += [f"{level}defaultLogLevel=warn", f"{level}log.kafka.server.KafkaRaftServer=info"]
        return ["java", *tuning, "-cp", f"{self._jars}/*", *arguments]

    def _format(self) -> None:
        command = self._java("kafka.tools.StorageTool", "format", "--standalone")
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            command += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        command += ["-t", uuid.uuid4().hex[:22], "-c", f"{self._folder}/server.properties"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
        if done.returncode:
            raise ServerFailed(f"Kafka's storage could not be formatted:\n{done.stderr[-2000:]}")

    async def start(self) -> None:
        """Start it on its ports and data; returns when clients can connect.

        Raises:
            ServerFailed: it ended, or is not up within two minutes; with the end of its log.
        """
        began = self._spawn()
        try:
            await until(lambda: self._up(began), seconds=_PATIENCE, what="Kafka Server started")
        except TimeoutError as error:
            raise ServerFailed(f"Kafka is not up:\n{self.log()}") from error

    def _spawn(self) -> int:
        """Start the process; the size of the log before it."""
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", f"{self._folder}/server.properties"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
            return log.tell()

    async def _up(self, began: int) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerFailed(f"Kafka ended with {self._process.returncode}:\n{self.log()}")
        if b"Kafka Server started" not in (self._folder / "log").read_bytes()[began:]:
            await asyncio.sleep(0.1)
            return False
        return await listening(self._ports["plain"])

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    async def stop(self) -> None:
        """End it as an administrator would; its data stay."""
        if self._process is not None and self.running:
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, 20)
            except subprocess.TimeoutExpired:
                await self.kill()

    async def kill(self) -> None:
        """SIGKILL; its data stay."""
        if self._process is not None and self.running:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def restart(self) -> None:
        """Kill it and start it again on the same ports and data."""
        await self.kill()
        await self.start()

    def log(self, size: int = 6000) -> str:
        """The end of its log."""
        path = self._folder / "log"
        return path.read_bytes()[-size:].decode(errors="replace") if path.exists() else ""

    # -- what tests do with it ----------------------------------------------

    async def create_topic(
        self, name: str, partitions: int = 1, *, config: dict[str, str] | None = None
    ) -> None:
        """Create a Kafka topic, and return when the broker serves it."""
        admin = AdminClient({"bootstrap.servers": self.brokers})
        made = admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])[name]
        await asyncio.to_thread(made.result, 60)

    async def add_partitions(self, name: str, total: int) -> None:
        """Let a topic have that many partitions, and return when the broker serves them."""
        admin = AdminClient({"bootstrap.servers": self.brokers})
        made = admin.create_partitions([NewPartitions(name, total)])[name]
        await asyncio.to_thread(made.result, 60)

        async def served() -> bool:
            metadata = await asyncio.to_thread(admin.list_topics, name, 20)
            return len(metadata.topics[name].partitions) == total

        await until(served, seconds=60, what=f"{total} partitions of {name}")

    async def produce(self, topic: str, records: Iterable[dict[str, Any]]) -> None:
        """Write records (`value`, and optionally `key`, `headers`, `partition`); returns

        when the broker has acknowledged all of them.
        """
        await asyncio.to_thread(self._produce, topic, list(records))

    def _produce(self, topic: str, records: list[dict[str, Any]]) -> None:
        failed: list[str] = []
        producer = Producer(
            {
                "bootstrap.servers": self.brokers,
                "linger.ms": 5,
                "queue.buffering.max.messages": 0,
                "message.max.bytes": 20_000_000,
            }
        )
        for record in records:
            producer.produce(
                topic,
                **record,
                on_delivery=lambda error, _: failed.append(str(error)) if error else None,
            )
        left = producer.flush(60)
        if failed or left:
            raise ServerFailed(f"{left} records not sent, failed: {failed[:3]}\n{self.log()}")
