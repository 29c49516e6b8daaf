"""What every run needs of the Python and the Ansible that it is started with.

Read by whatever core somebody has, so there is nothing in it that an old Python or an old core does not know.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: The oldest and the newest minor version of ansible-core that the tests run on; pyproject.toml says the same.
CORES = ((2, 19), (2, 21))
#: What pyproject.toml asks for, by the name under which it is imported; Barman is a program of some playbooks.
PACKAGES = {
    "PIL": "pillow",
    "boto3": "boto3",
    "brotli": "brotli",
    "cryptography": "cryptography",
    "dns": "dnspython",
    "jinja2": "jinja2",
    "psycopg2": "psycopg2-binary",
    "rich": "rich",
    "zstandard": "zstandard",
}
_FIX = (
    "Run make setup and take its .venv/bin/ansible-playbook, or take the execution environment that "
    "execution-environment.yml describes."
)


def refusal(core: str, missing: Iterable[str], python: str) -> str | None:
    """Why nothing can be run, in one line; None where all is there.

    :param core: the version of ansible-core
    :param missing: those of :data:`PACKAGES` that cannot be imported, by that name
    :param python: the interpreter, as a person would start it

    >>> refusal("2.21.5", [], "python3")
    >>> refusal("2.17.14", [], "python3").partition("; ")[0]
    'ansible-core 2.17.14 is not supported: this project runs on 2.19 to 2.21'
    """
    oldest, newest = CORES
    packages = [PACKAGES[name] for name in missing]
    if not oldest <= minor_version(core) <= newest:
        numbers = " to ".join(".".join(map(str, each)) for each in CORES)
        return f"ansible-core {core} is not supported: this project runs on {numbers}; nothing was done. {_FIX}"
    if packages:
        one = len(packages) == 1
        return (
            f"{python} lacks the package{'' if one else 's'} {', '.join(sorted(packages))}, which this project needs; "
            f"nothing was done. {_FIX}"
        )
    return None


def minor_version(version: str) -> tuple[int, ...]:
    """The first two numbers of a version.

    >>> minor_version("2.22.0b1")
    (2, 22)
    """
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:2])
