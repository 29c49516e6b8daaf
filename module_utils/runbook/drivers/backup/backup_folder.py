"""The folder of a backup that is being made: claimed first, filled by streams, and removed if nothing comes of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.s3 import s3, stream
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.manifest import CLAIM_NAME, MANIFEST_NAME, Manifest, Object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible.module_utils.runbook.drivers.s3.s3 import Readable, Store
    from ansible.module_utils.runbook.rules.backup.backup import Encryption, Part


class BackupFolder:
    """A folder below ``home``, the database's own in the bucket."""

    def __init__(self, store: Store, home: str, encryption: Mapping[str, str]) -> None:
        """Nothing is written yet.

        :param encryption: on the server's side, for every object
        """
        self.store = store
        self.home = home
        self._encryption = encryption
        #: Name of the backup; empty until it is claimed.
        self.id = ""
        #: Key of the manifest; empty until it is written.
        self.manifest = ""

    @property
    def path(self) -> str:
        """Prefix of the backup's objects; that of the database where it is not claimed."""
        return f"{self.home}{self.id}/" if self.id else self.home

    def claim(self, ids: Iterable[str], mark: bytes) -> bool:
        """Take the first of these names that is nobody else's; whether there was one.

        Two servers with a database of one name may begin in the same second; whoever comes second takes the next name.

        :raises RunbookError: the bucket refuses
        """
        for name in ids:
            try:
                self.store.put(f"{self.home}{name}/{CLAIM_NAME}", mark, encryption=self._encryption, if_absent=True)
            except RunbookError as error:
                if error.context.get("s3_code") not in s3.TAKEN:
                    raise
            else:
                self.id = name
                return True
        return False

    def upload(self, part: Part, source: Readable, encryption: Encryption, segment_bytes: int) -> list[Object]:
        """Write what one part of the dump gives, as objects of ``segment_bytes`` at most.

        :param encryption: on this side, which the objects' names say
        :raises RunbookError: the bucket refuses, or has another size than was sent
        """
        made = []
        for number, segment in enumerate(stream.segments(source, segment_bytes)):
            key = f"{self.path}{part.object_name(encryption, number)}"
            uploaded = self.store.upload(key, segment, encryption=self._encryption)
            if uploaded.size_bytes != segment.size_bytes:
                raise RunbookError(
                    f"{self.store.url(key)} has {uploaded.size_bytes} bytes there, and {segment.size_bytes} were sent; "
                    "start again, and look at the S3 server if that does not help."
                )
            made.append(
                Object(key, part.what, part.stream, number, segment.size_bytes, segment.sha256, uploaded.version_id)
            )
        return made

    def complete(self, manifest: Manifest) -> None:
        """Write the manifest, which makes it a backup."""
        key = f"{self.path}{MANIFEST_NAME}"
        self.store.put(key, manifest.to_bytes(), encryption=self._encryption, if_absent=True)
        self.manifest = key

    def give_up(self) -> bool:
        """Leave nothing that a person would have to look at; whether a manifest got there, which stays."""
        if not self.id or self.manifest:
            return False
        with suppress(RunbookError):
            for key, upload_id, _ in self.store.uploads(self.path):
                self.store.abort_upload(key, upload_id)
            found = list(self.store.versions(self.path))
            if any(each.key == self.path + MANIFEST_NAME for each in found):
                return True
            try:
                self.store.delete(found)
            except RunbookError:
                # Where versions may not be removed, they are hidden.
                self.store.delete(list(self.store.entries(self.path)))
        return False
