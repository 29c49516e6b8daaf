# What the project uses of ansible.module_utils.basic, typed: ansible-core ships no types for it.
from typing import Any, NoReturn

_ANSIBLE_ARGS: bytes | None
_ANSIBLE_PROFILE: str | None

class AnsibleModule:
    argument_spec: dict[str, Any]
    params: dict[str, Any]
    check_mode: bool
    no_log_values: set[str]
    _diff: bool
    def __init__(self, argument_spec: dict[str, Any], **spec: Any) -> None: ...
    def warn(self, warning: str) -> None: ...
    def exit_json(self, **result: Any) -> NoReturn: ...
    def fail_json(self, msg: str, **result: Any) -> NoReturn: ...
