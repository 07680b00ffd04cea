"""The controller: what is declared in a cluster is made to run there.

    watches -> queue -> plan -> ensure -> render -> apply -> status

`changes.py` puts the keys of what is concerned by a change into `queue.py`; `reconcile.py`
takes them out and calls the other steps in that order. `render/` is pure.
"""
