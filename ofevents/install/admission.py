"""The ValidatingWebhookConfiguration. Called by `objects`.

It names no certificate authority: the active controller makes its certificate and writes
the authority into this object. Applied again, it leaves that field alone.
"""

from __future__ import annotations

from ofevents.api.meta import GROUP, VERSION
from ofevents.install.parts import Object, metadata
from ofevents.install.settings import NAME, Settings

PATH = "/validate"
"""Of the webhook."""


def webhook(settings: Settings) -> Object:
    """Asks the controller before a resource of ours is stored.

    In the chosen namespaces only, where some are chosen: another controller may look after
    the rest.
    """
    hook: Object = {
        "name": f"validate.{GROUP}",
        "clientConfig": {
            "service": {
                "name": NAME,
                "namespace": settings.namespace,
                "path": PATH,
                "port": 443,
            }
        },
        "rules": [
            {
                "apiGroups": [GROUP],
                "apiVersions": [VERSION],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["eventsources", "triggers", "eventbuses", "clustereventbuses"],
                "scope": "*",
            }
        ],
        "failurePolicy": settings.admission.failure_policy,
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
    }
    if settings.namespaces:
        expression = {
            "key": "kubernetes.io/metadata.name",
            "operator": "In",
            "values": list(settings.namespaces),
        }
        hook["namespaceSelector"] = {"matchExpressions": [expression]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata(settings, NAME, ""),
        "webhooks": [hook],
    }
