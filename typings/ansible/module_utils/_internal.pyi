# What the project uses of ansible.module_utils._internal, typed: ansible-core ships no types for it.
is_controller: bool
