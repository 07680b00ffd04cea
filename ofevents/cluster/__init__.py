"""The Kubernetes API: the only code of ours that talks to it (the `kubernetes` source excepted).

    async with Api() as api:                           # the Pod's account, or a kubeconfig
        await api.apply(kinds.DEPLOYMENT, manifest)    # server-side, field manager `ofevents`

`Reflector` keeps a `Cache` equal to the cluster by list and watch, `ClusterLookUp`
answers `resolve` out of such caches, `Lease` says who of several processes may write.
Callers: `ofevents.controller`.
"""
