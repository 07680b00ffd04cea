"""The ValidatingWebhookConfiguration, and the Service that it names. Called by `objects`.

It is the controller's own, with the choices of the installation, and without a certificate
authority: the active controller makes its certificate and writes the authority into this
object. Applied again, it leaves that field alone.
"""

from __future__ import annotations

from ofevents.controller.admission import NAME, Admission, configuration
from ofevents.install.parts import Object, metadata
from ofevents.install.settings import SELECTOR, Settings


def service(settings: Settings) -> Object:
    """Where the API server finds the webhook: every controller answers."""
    port = {"name": "admission", "port": 443, "targetPort": "admission", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(settings, NAME, settings.namespace),
        "spec": {"selector": dict(SELECTOR), "ports": [port]},
    }


def webhook(settings: Settings) -> Object:
    """Asks a controller before a resource of ours is stored.

    In the chosen namespaces only, where some are chosen: others may be somebody else's.
    """
    at = Admission(settings.namespace, watched=settings.namespaces)
    made = configuration(at, "", settings.admission.failure_policy)
    [hook] = made["webhooks"]
    del hook["clientConfig"]["caBundle"]
    return {**made, "metadata": metadata(settings, NAME, "")}
