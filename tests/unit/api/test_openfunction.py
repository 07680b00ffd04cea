"""Every field that OpenFunction 1.2's events CRDs accept is accepted unchanged."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ofevents.api.documents import RESOURCES, find
from ofevents.api.meta import API_VERSION

BUSES = """
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec:
  topic: default
  natsStreaming:
    natsURL: nats://nats.default:4222
    natsStreamingClusterID: stan
    subscriptionType: queue
    durableSubscriptionName: ImDurable
    ackWaitTime: 30s
    maxInFlight: 1
    deliverNew: true
    startAtSequence: 1
    startWithLastReceived: false
    deliverAll: false
    startAtTimeDelta: 10s
    startAtTime: Feb 3, 2013 at 7:54pm (PST)
    startAtTimeFormat: Jan 2, 2006 at 3:04pm (MST)
    consumerID: me
    scaleOption:
      pollingInterval: 15
      cooldownPeriod: 30
      minReplicaCount: 0
      maxReplicaCount: 10
      advanced: {restoreToOriginalReplicaCount: true, horizontalPodAutoscalerConfig: {}}
      metadata: {a: b}
      authRef: {name: keda-auth}
      natsServerMonitoringEndpoint: stan.default.svc.cluster.local:8222
      queueGroup: grp1
      durableName: ImDurable
      subject: Test
      lagThreshold: "10"
---
apiVersion: events.openfunction.io/v1alpha1
kind: ClusterEventBus
metadata: {name: default}
spec:
  natsStreaming:
    natsURL: nats://nats.default:4222
    natsStreamingClusterID: stan
    subscriptionType: queue
"""

SOURCES = """
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: my-eventsource, labels: {a: b}, annotations: {c: d}}
spec:
  eventBus: default
  logLevel: "2"
  sink:
    uri: http://openfunction.io.svc.cluster.local/default/sink
    ref: {apiVersion: core.openfunction.io/v1beta1, kind: Function, name: sink, namespace: default}
  build:
    builder: openfunctiondev/builder:v1
    srcRepo: {url: "https://example.test/repo.git", sourceSubPath: a/b}
  kafka:
    sample-one:
      brokers: kafka-server-kafka-brokers.default.svc.cluster.local:9092
      topic: events-sample
      authRequired: false
      saslUsername: me
      saslPassword: secret
      maxMessageBytes: 1024
      scaleOption:
        pollingInterval: 15
        cooldownPeriod: 30
        minReplicaCount: 0
        maxReplicaCount: 10
        advanced: {}
        metadata: {consumerGroup: x}
        authRef: {name: keda-auth}
        consumerGroup: x
        topic: events-sample
        lagThreshold: "20"
  cron:
    sample-two: {schedule: "@every 5s"}
    sample-three: {schedule: "*/30 * * * * *"}
  mqtt:
    sample-four:
      url: tcp://admin:public@emqx.default.svc.cluster.local:1883
      topic: test
      consumerID: me
      qos: 1
      retain: false
      cleanSession: false
      caCert: "-----BEGIN CERTIFICATE-----"
      clientCert: "-----BEGIN CERTIFICATE-----"
      clientKey: "-----BEGIN KEY-----"
  redis:
    sample-five:
      redisHost: redis:6379
      redisPassword: secret
      enableTLS: false
      failover: false
      sentinelMasterName: mymaster
      redeliverInterval: 60s
      processingTimeout: 15s
      redisType: node
      redisDB: 0
      redisMaxRetries: 3
      redisMinRetryInterval: 8ms
      redisMaxRetryInterval: 512ms
      dialTimeout: 5s
      readTimeout: 3s
      writeTimeout: 3s
      poolSize: 10
      poolTimeout: 4s
      maxConnAge: 30m
      minIdleConns: 0
      idleCheckFrequency: 1m
      idleTimeout: 5m
status:
  conditions:
  - {timestamp: "2023-09-01 10:00:00", type: Ready, status: "True", reason: EventSourceIsReady}
"""

TRIGGERS = """
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: trigger-a, namespace: shop}
spec:
  eventBus: default
  logLevel: "1"
  inputs:
    inputDemo: {eventSource: my-eventsource, event: sample-one, namespace: default}
    A: {eventSource: my-eventsource, event: sample-two}
  subscribers:
  - condition: inputDemo
    sink: {uri: "http://openfunction.io.svc.cluster.local/default/sink"}
    deadLetterSink:
      ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: dead, namespace: default}
    topic: metrics
    deadLetterTopic: failed
  - condition: inputDemo && A || !A
    topic: metrics
"""


def _documents() -> list[dict[str, Any]]:
    text = "---".join((BUSES, SOURCES, TRIGGERS))
    return [each for each in yaml.safe_load_all(text) if each]


@pytest.mark.parametrize("document", _documents(), ids=lambda each: each["kind"])
def test_an_openfunction_manifest_is_accepted_unchanged(document: dict[str, Any]) -> None:
    model = find(document["apiVersion"], document["kind"])
    assert model is RESOURCES[document["kind"]]
    read = model.model_validate(document, by_alias=True, by_name=False)
    spec = read.model_dump(mode="json", by_alias=True, exclude_unset=True)["spec"]
    assert spec == document["spec"]


def test_every_kind_of_ours_is_found_and_others_are_not() -> None:
    for kind in ("EventBus", "ClusterEventBus", "EventSource", "Trigger"):
        assert find(API_VERSION, kind) is RESOURCES[kind]
    assert find("apps/v1", "Deployment") is None
    assert find("events.openfunction.io/v1", "Trigger") is None
