"""What can be wrong with a backup: one word each, the ``code`` of an error that says it."""

from __future__ import annotations

#: An object, or a part of a base backup, is not in the bucket.
MISSING = "missing_object"
#: An object has another size than its manifest says.
WRONG_SIZE = "wrong_size"
#: An object's content is not what was written.
DAMAGED = "damaged_object"
#: The backup is of another cluster.
OTHER_CLUSTER = "other_cluster"
#: A restored server could not replay the archived WAL that was to be replayed.
WAL_DAMAGED = "damaged_wal"
