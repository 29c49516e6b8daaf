"""Which server it is that answers."""

from __future__ import annotations

from ansible.module_utils.runbook.errors import RunbookError


def check_identity(machine_id: str, hostname: str, *, wanted_id: str, wanted_name: str, own_id: str = "") -> None:
    """Refuse a server that the inventory does not mean.

    A copy of a virtual machine may have the machine id of the first one, so the name counts too:
    https://www.freedesktop.org/software/systemd/man/latest/machine-id.html

    :param own_id: the machine id of the bastion, where the answer may not come from
    :raises RunbookError: it is another one, or the inventory does not say which
    """
    check_not_bastion(machine_id, wanted_name, own_id)
    if not wanted_id:
        raise RunbookError(
            f"machine_id: it is empty, and {hostname} says {machine_id}; if that is the server you mean, set it."
        )
    if machine_id.lower() != wanted_id.lower():
        raise RunbookError(
            f"machine_id: {hostname} says {machine_id}, and the inventory means {wanted_id}; this is another server, "
            "or it was installed again."
        )
    if hostname != wanted_name:
        raise RunbookError(
            f"hostname: the server calls itself {hostname}, and the inventory means {wanted_name}; correct the one "
            "that is wrong."
        )


def check_not_bastion(machine_id: str, name: str, own_id: str) -> None:
    """Refuse an answer of the bastion in the place of a server.

    :param own_id: the machine id of the bastion; empty where it has none
    :raises RunbookError: it is
    """
    if own_id and machine_id == own_id:
        raise RunbookError(
            f"{name}: the machine that answers is this bastion itself; set ansible_connection: ssh for the group "
            "servers."
        )
