"""Whose backup it is, and who may write, delete and restore it."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import backup_origin as rules
from ansible.module_utils.runbook.rules.backup import manifest as manifests

OWN = rules.Origin("71", "shop")


def test_a_folder_is_written_by_its_own_cluster_or_its_successor():
    clusters = rules.accepted("71", [])
    rules.check_writing(None, clusters, OWN, where="s3://b/shop/")
    rules.check_writing(OWN, clusters, OWN, where="s3://b/shop/")
    other = rules.Origin("72", "shop")
    with pytest.raises(
        RunbookError, match=r"cluster 72.* on cluster 71.*backup_prefix.*backup_previous_clusters: \['72'\]"
    ):
        rules.check_writing(other, clusters, OWN, where="s3://b/shop/")
    rules.check_writing(other, rules.accepted("71", ["72"]), OWN, where="s3://b/shop/")
    with pytest.raises(RunbookError, match="database 'web', and this one is 'shop'"):
        rules.check_writing(rules.Origin("71", "web"), clusters, OWN, where="s3://b/shop/")


def test_another_clusters_backup_needs_its_number():
    clusters = rules.accepted("71", ["70"])
    for of in ("71", "70"):
        rules.check_restoring(of, clusters, "", where="b")
    with pytest.raises(RunbookError, match="db_restore_from_cluster=72"):
        rules.check_restoring("72", clusters, "", where="b")
    rules.check_restoring("72", clusters, "72", where="b")
    # What is named is what is meant, and nothing else.
    with pytest.raises(RunbookError, match="from_cluster: b is a backup of cluster 71, not of 72"):
        rules.check_restoring("71", clusters, "72", where="b")
    rules.check_restoring("72", frozenset(), "", where="a proof on a server of its own")


@pytest.mark.parametrize(
    ("own", "previous", "says"), [("7", ["x"], "'x' is no"), ("", ["7"], "system_identifier is not")]
)
def test_what_makes_no_sense(own, previous, says):
    with pytest.raises(RunbookError, match=says):
        rules.accepted(own, previous)


def test_several_clusters_in_one_folder_need_a_word():
    rules.check_one([OWN, None, OWN], where="s3://b/shop/")
    with pytest.raises(RunbookError, match="2 clusters \\(71, 72\\)"):
        rules.check_one([OWN, rules.Origin("72", "shop")], where="s3://b/shop/")


@pytest.mark.parametrize("text", ["", "[]", "theirs", '{"deadline_s": true, "run_id": 1}', '{"deadline_s": -1}'])
def test_a_claim_that_says_nothing_is_an_empty_one(text):
    claim = manifests.parse_claim(text)
    assert (claim.run_id, claim.system_identifier) == ("", "")
    assert claim.deadline_s in (0, 1)


def test_a_claim_is_read_as_it_was_written():
    claim = manifests.Claim("run", "token", 60, "71", "shop")
    assert manifests.parse_claim(claim.to_bytes()) == claim
